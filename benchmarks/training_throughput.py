"""Training throughput of seqlab against a hand-written loop over ``torch.nn.LSTM``, interleaved.

Both train the same model on the same batches with the same optimiser, schedule and clipping. Reports the ratio of
examples per second at the median of the rounds. Run on an idle machine.

    python benchmarks/training_throughput.py --rounds 7
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from rounds import compare
from torch import Tensor, nn

import seqlab
from seqlab.data.loaders import BucketLoader
from seqlab.training.optimizers import schedule
from seqlab.training.session import prepare_data


class HandWritten(nn.Module):
    """Embedding, ``nn.LSTM`` on padded input, the output at each row's last valid step, linear."""

    def __init__(self, symbols: int, classes: int, model: dict, cell: dict) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, model["embedding_size"], padding_idx=0)
        self.lstm = nn.LSTM(model["embedding_size"], cell["hidden_size"])
        self.linear = nn.Linear(cell["hidden_size"], classes)
        self.input_dropout = nn.Dropout(model.get("input_dropout", 0.0))
        self.output_dropout = nn.Dropout(model.get("output_dropout", 0.0))

    def forward(self, ids: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the logits of a batch."""
        outputs, _ = self.lstm(self.input_dropout(self.embedding(ids.t())))
        last = outputs[-1] if lengths is None else outputs[lengths - 1, torch.arange(len(lengths))]
        return self.linear(self.output_dropout(last))


def train_by_hand(loader: BucketLoader, net: HandWritten, task: seqlab.Task, config: dict, epochs: int) -> float:
    """Train and return the examples per second."""
    settings = config["optimizer"]
    decayed = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings["lr"], weight_decay=settings["weight_decay"], foreach=True)
    rate = schedule(settings, epochs * len(loader))
    net.train()
    seconds, examples, step = 0.0, 0, 0
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        since = time.perf_counter()
        for batch in loader:
            optimizer.zero_grad()
            loss = task.loss(net(batch.inputs, batch.lengths), batch)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), config["trainer"]["gradient_clip_val"])
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = settings["lr"] * rate(step)
            optimizer.step()
            step += 1
            examples += len(batch.targets)
        seconds += time.perf_counter() - since
    return examples / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("overrides", nargs="*", help="config overrides, such as task.data_dir=FOLDER")
    asked = parser.parse_args()
    overrides = ["cell=lstm", "task=names", "logger=none", "trainer.progress=false", *asked.overrides]
    config = seqlab.compose([*overrides, f"trainer.max_epochs={asked.epochs}"])
    plain = dict(config)

    task, data = prepare_data(config)
    loader = data.loader("train")

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return seqlab.run(config, Path(folder) / "run").cost["examples_per_second"]

    def by_hand() -> float:
        net = HandWritten(data.inputs.size, task.outputs, dict(config.model), dict(config.cell))
        return train_by_hand(loader, net, task, plain, asked.epochs)

    compare({"seqlab": ours, "by hand": by_hand}, asked.rounds, "examples")


if __name__ == "__main__":
    main()
