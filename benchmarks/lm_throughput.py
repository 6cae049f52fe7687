"""Training throughput of a language model against a plain loop over ``torch.nn.LSTM``, interleaved.

Both train the model of ``experiment=ptb_small`` on the same windows with the same clipping and optimiser, carrying the
state. Reports the ratio of tokens per second at the median of the rounds. Run on an idle machine.

    python benchmarks/lm_throughput.py task.data_dir=FOLDER
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from rounds import compare
from torch import Tensor, nn

import seqlab
from seqlab.data.streams import StreamLoader
from seqlab.training.session import prepare_data

States = tuple[Tensor, Tensor]


class Bare(nn.Module):
    """Embedding, ``nn.LSTM``, linear."""

    def __init__(self, symbols: int, model: dict, cell: dict) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, model["embedding_size"])
        self.lstm = nn.LSTM(model["embedding_size"], cell["hidden_size"], model["depth"])
        self.linear = nn.Linear(cell["hidden_size"], symbols)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -model["init_range"], model["init_range"])

    def forward(self, ids: Tensor, state: States | None) -> tuple[Tensor, States]:
        """Return logits ``[time, batch, symbols]`` and the state."""
        outputs, state = self.lstm(self.embedding(ids), state)
        return self.linear(outputs), state


def train_bare(loader: StreamLoader, net: Bare, config: dict) -> float:
    """Train for an epoch and return the tokens per second."""
    optimizer = torch.optim.SGD(net.parameters(), lr=config["optimizer"]["lr"])
    net.train()
    state, tokens = None, 0
    since = time.perf_counter()
    for batch in loader:
        optimizer.zero_grad()
        logits, state = net(batch.inputs.t(), state)
        state = (state[0].detach(), state[1].detach())
        F.cross_entropy(logits.flatten(0, 1), batch.targets.t().flatten()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), config["trainer"]["gradient_clip_val"])
        optimizer.step()
        tokens += batch.inputs.numel()
    return tokens / (time.perf_counter() - since)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=300, help="batches of 20 x 20 tokens per round (%(default)s)")
    parser.add_argument("overrides", nargs="*", help="config overrides, such as task.data_dir=FOLDER")
    asked = parser.parse_args()
    limits = [f"trainer.limit_train_batches={asked.batches}", "trainer.limit_val_batches=1"]
    overrides = ["experiment=ptb_small", "logger=none", "trainer.progress=false", "trainer.limit_test_batches=1"]
    config = seqlab.compose([*overrides, *limits, "trainer.max_epochs=1", *asked.overrides])
    plain = dict(config)

    _, data = prepare_data(config)
    loader = data.loader("train")
    loader.overfit_batches = asked.batches

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return seqlab.run(config, Path(folder) / "run").cost["tokens_per_second"]

    def bare() -> float:
        return train_bare(loader, Bare(data.inputs.size, dict(config.model), dict(config.cell)), plain)

    compare({"seqlab": ours, "bare": bare}, asked.rounds, "tokens")


if __name__ == "__main__":
    main()
