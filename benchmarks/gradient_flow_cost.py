"""Cost of ``callbacks=gradient_flow`` in a run: ``python benchmarks/gradient_flow_cost.py``.

For each cell and distance, one run of ``task=first`` at the default interval: seconds of measuring gradients, seconds
of training without them, and their ratio; plotting at the end is reported separately.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import seqlab
from seqlab.study.gradient_flow import read
from seqlab_callbacks import gradient_flow


def timed(name: str, spent: list[float]) -> None:
    """Time every call of a function of the callback."""
    inner = getattr(gradient_flow, name)

    def wrapper(*arguments: Any) -> Any:
        begin = time.perf_counter()
        result = inner(*arguments)
        spent.append(time.perf_counter() - begin)
        return result

    setattr(gradient_flow, name, wrapper)


def main() -> None:
    """Print a row per cell and distance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="+", default=["rnn", "lstm", "gru"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("words", nargs="*", help="config overrides, such as cell.hidden_size=64")
    asked = parser.parse_args()
    measured, drawn = list[float](), list[float]()
    timed("measure", measured)
    timed("draw_flow", drawn)
    for cell in asked.cells:
        for length in asked.lengths:
            measured.clear(), drawn.clear()
            words = [f"cell={cell}", "task=first", f"task.sequence_length={length}", "callbacks=gradient_flow"]
            quiet = ["trainer.progress=false", "trainer.threads=1", "logger=none", f"trainer.max_epochs={asked.epochs}"]
            with tempfile.TemporaryDirectory() as folder:
                result = seqlab.run(seqlab.compose([*words, *quiet, *asked.words]), Path(folder) / "run")
                flow = read(result.folder)
            assert flow is not None
            training = result.cost["training_seconds"] - sum(measured[1:-1])  # first and last: outside training
            print(
                f"{cell:5} T={length:<5} training {training:7.2f} s, measuring {sum(measured):6.2f} s at the steps "
                f"{', '.join(map(str, flow.steps))}: {sum(measured) / training:.1%}; plotting {sum(drawn):.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
