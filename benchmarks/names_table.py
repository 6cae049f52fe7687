"""Table of results on names: cells and baselines over five data splits, one run each, in one process.

    python benchmarks/names_table.py --data-dir FOLDER     the 20,074 names of the PyTorch tutorial
    python benchmarks/names_table.py                       the bundled names

Finished runs are not repeated.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import seqlab

ROWS = {
    "rnn": ["cell=rnn"],
    "lstm": ["cell=lstm", "cell.forget_bias=0"],
    "gru": ["cell=gru"],
    "lstm, balance=weights": ["cell=lstm", "cell.forget_bias=0", "task.balance=weights"],
    "lstm, bidirectional, 2 layers": ["cell=lstm", "cell.forget_bias=0", "model.bidirectional=true", "model.depth=2"],
    "bow": ["model=bow"],
    "names_bow": ["experiment=names_bow"],
    "names_best": ["experiment=names_best"],
}


def record(folder: Path, overrides: list[str]) -> dict:
    """Return the results of a run, which is done if missing."""
    if not (folder / "results.json").is_file():
        seqlab.run(seqlab.compose([*overrides, "logger=none", "trainer.progress=false"]), folder)
    return json.loads((folder / "results.json").read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", help="folder of <Language>.txt; the bundled names if left out")
    parser.add_argument("--out", type=Path, default=Path("runs/names_table"))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    asked = parser.parse_args()
    source = [f"task.data_dir={asked.data_dir}"] if asked.data_dir else []
    console = Console()
    table = Table("model", "accuracy", "spread", "balanced accuracy", "macro F1", "seconds per run")
    for name in asked.rows:
        records = []
        for split in range(asked.splits):
            folder = asked.out / name.replace(" ", "_") / f"split_{split}"
            since = time.perf_counter()
            records.append(record(folder, ["task=names", *ROWS[name], *source, f"task.split_seed={split}"]))
            test = records[-1]["metrics"]["test"]
            console.print(
                f"{name}, split {split}: accuracy {test['accuracy']:.4f}, balanced {test['balanced_accuracy']:.4f}"
                f" ({time.perf_counter() - since:.0f} s)",
                style="dim",
            )
        tests = [one["metrics"]["test"] for one in records]
        accuracies = [test["accuracy"] for test in tests]
        table.add_row(
            name,
            f"{statistics.mean(accuracies):.4f}",
            f"{min(accuracies):.4f}-{max(accuracies):.4f}",
            f"{statistics.mean(test['balanced_accuracy'] for test in tests):.4f}",
            f"{statistics.mean(test['macro_f1'] for test in tests):.4f}",
            f"{statistics.mean(one['cost']['wall_seconds'] for one in records):.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
