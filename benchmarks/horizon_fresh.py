"""Repetition of a finished horizon search with other seeds: do the horizons fall within its intervals?

python benchmarks/horizon_fresh.py SWEEP_DIR --times 5
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the finished search")
    parser.add_argument("--times", type=int, default=5, help="searches with fresh seeds (%(default)s)")
    parser.add_argument("words", nargs="*", help="such as hydra/launcher=joblib, 'hydra.sweeper.only=[gru/first]'")
    asked = parser.parse_intermixed_args()
    typed = json.loads((asked.folder / "sweep.json").read_text())["words"]
    before = {(row["task"], row["label"]): row for row in _rows(asked.folder)}
    inside: dict[tuple[str, str], list[bool]] = {}
    for time in range(1, asked.times + 1):
        folder = asked.folder.with_name(f"{asked.folder.name}_fresh{time}")
        seeds = [f"hydra.sweeper.first_seed={1000 * time}", "hydra.sweeper.confirm_seeds=0"]
        changed = {word.partition("=")[0] for word in (*seeds, *asked.words)}
        kept = [word for word in typed if word.partition("=")[0] not in changed]
        words = [*kept, *seeds, *asked.words, "hydra.sweeper.check_budget=false", f"hydra.sweep.dir={folder}"]
        subprocess.run([sys.executable, "-m", "seqlab", "-m", *words], check=True, capture_output=True)
        for row in _rows(folder):
            known = before[row["task"], row["label"]]
            lands = is_inside(row["horizon"], known["lower"], known["upper"])
            inside.setdefault((row["task"], row["label"]), []).append(lands)
            print(f"{row['task']} {row['label']}: {row['horizon']} in [{known['lower']}, {known['upper']}]: {lands}")
    for (task, label), landed in inside.items():
        print(f"{task} {label}: {sum(landed)} of {len(landed)} inside")
    total = [each for landed in inside.values() for each in landed]
    print(f"all rows: {sum(total)} of {len(total)} inside")


def is_inside(horizon: int | None, lower: int | None, upper: int | None) -> bool:
    """Return whether a horizon lies in an interval, whose ends may be open."""
    found = 0 if horizon is None else horizon
    return (lower or 0) <= found and (upper is None or found <= upper)


def _rows(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((folder / "horizon.json").read_text())["rows"]
    return rows


if __name__ == "__main__":
    main()
