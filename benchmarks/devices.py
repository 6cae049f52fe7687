"""Training throughput of two single-threaded processes against one, on the same batches, interleaved.

Reports the ratio of examples (``task=lm``: tokens) per second at the median of the rounds, process start excluded. Run
on an idle machine with two cores.

    python benchmarks/devices.py task=names cell.hidden_size=128
    python benchmarks/devices.py task=lm
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from rounds import compare

import seqlab


def rate(overrides: list[str], unit: str) -> float:
    """Train and return the rate."""
    with tempfile.TemporaryDirectory() as folder:
        return seqlab.run(seqlab.compose(overrides), Path(folder) / "run").cost[f"{unit}_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=400, help="batches per round of task=lm (%(default)s)")
    parser.add_argument("overrides", nargs="*", help="config overrides, such as task=lm")
    asked = parser.parse_args()
    common = ["logger=none", "trainer.progress=false", "trainer.threads=1", "trainer.max_epochs=1", *asked.overrides]
    is_text = "task=lm" in asked.overrides
    common += ["trainer.limit_val_batches=2", "trainer.limit_test_batches=2"]
    common += (
        [f"trainer.limit_train_batches={asked.batches}"]
        if is_text
        else ["trainer.max_epochs=40", "trainer.early_stopping=null"]
    )
    unit = "tokens" if is_text else "examples"
    two, one = (partial(rate, [f"trainer={trainer}", *common], unit) for trainer in ("ddp_cpu", "cpu"))
    compare({"two": two, "one": one}, asked.rounds, unit)


if __name__ == "__main__":
    main()
