"""Training time with one kernel against another, whole runs interleaved, after one of each that compiles.

    python benchmarks/end_to_end.py task=names
    python benchmarks/end_to_end.py task=adding task.sequence_length=500 trainer.max_epochs=1

Validation, checkpoints and imports are excluded. Run on an idle machine.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from rounds import compare

import seqlab


def training(overrides: list[str], kernel: str) -> Callable[[], float]:
    """Return a function that trains once and returns examples per second."""
    config = seqlab.compose([*overrides, f"kernel={kernel}", "logger=none", "trainer.progress=false"])

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return seqlab.run(config, Path(folder) / "run").cost["examples_per_second"]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--kernels", nargs=2, default=["fused", "vendor"])
    parser.add_argument("overrides", nargs="*", help="config overrides of both")
    asked = parser.parse_args()
    overrides = [f"cell={asked.cell}", *asked.overrides]
    compare({kernel: training(overrides, kernel) for kernel in asked.kernels}, asked.rounds, "examples")


if __name__ == "__main__":
    main()
