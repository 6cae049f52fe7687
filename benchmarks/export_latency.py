"""Latency of an exported model in onnxruntime relative to torch, calls interleaved, with the same number of threads.

The model has two layers (embedding 64, hidden 128), in both directions with ``--bidirectional``, and reads 500 steps.
The ratio is onnxruntime / torch per call.

    python benchmarks/export_latency.py --threads 1
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from seqlab import InputSpec
from seqlab.export.formats import FORMATS, INPUTS, PaddedModel, random_inputs
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN
from seqlab_models.recurrent import RecurrentModel

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
STEPS, HIDDEN, SPEC = 500, 128, InputSpec("tokens", 100)


def seconds(call: Callable[[], Any]) -> float:
    since = time.perf_counter()
    call()
    return time.perf_counter() - since


def sessions(cell: type, bidirectional: bool, threads: int) -> tuple[PaddedModel, Any]:
    """Return a model and the onnxruntime session of its export."""
    import onnxruntime

    made = RecurrentModel(
        SPEC, lambda features: nn.Linear(features, 10), False, lambda size: cell(size, HIDDEN), "auto",
        depth=2, bidirectional=bidirectional,
    )  # fmt: skip
    trained: Any = SimpleNamespace(model=made.eval(), nodes={"model": {"name": "recurrent"}})
    made.carries_state = False  # as for sequence classification
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FORMATS["onnx"].file
        FORMATS["onnx"].write(trained, SPEC, path)
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return PaddedModel(made), session


def ratios(model: PaddedModel, session: Any, batch: int, rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of onnxruntime and torch per round, after a warm-up round."""
    inputs, lengths = random_inputs(SPEC, batch, STEPS, seed=0)
    given = dict(zip(INPUTS, (inputs.numpy(), lengths.numpy()), strict=True))
    with torch.inference_mode():
        return [
            (seconds(lambda: session.run(None, given)), seconds(lambda: model(inputs, lengths)))
            for _ in range(rounds + 1)
        ][1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cells", default="rnn,lstm,gru")
    parser.add_argument("--bidirectional", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{'cell':<6}{'batch':>6}{'torch ms':>10}{'ort ms':>10}  ratio (spread)   kernel")
    for name in asked.cells.split(","):
        model, session = sessions(CELLS[name], asked.bidirectional, asked.threads)
        for batch in (1, 3, 64):
            pairs = ratios(model, session, batch, asked.rounds)
            each = [one / other for one, other in pairs]
            ours, theirs = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
            print(
                f"{name:<6}{batch:>6}{theirs:>10.2f}{ours:>10.2f}  {statistics.median(each):.2f}"
                f" ({min(each):.2f}-{max(each):.2f})   {model.model.kernel_report()['kernel']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
