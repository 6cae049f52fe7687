"""``tune`` on generated support tickets, the bundled reviews and names: does its winner beat what it starts from?

    python benchmarks/tuned_text.py --minutes 5
    python benchmarks/tuned_text.py --minutes 30 --sets names --splits 1 --names FOLDER

Each split seed is a search of its own, by ``python -m seqlab tune``, with one process. Searches continue; finished ones
are not repeated.
"""

import argparse
import json
import runpy
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy.stats import t as student

SETS = ("tickets", "reviews", "names")
ROWS = ("winner", "linear baseline", "best recurrent", "default model")
TICKETS = Path(__file__).resolve().parents[1] / "tests" / "tickets.py"


def words_of(name: str, folder: Path, names: Path | None) -> list[str]:
    """Return the overrides that name a set; the tickets are written if missing."""
    if name == "reviews":
        return ["task=textclf"]
    if name == "names":
        return ["task=names", *([f"task.data_dir={names}"] if names else [])]
    path = folder / "tickets.csv"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        runpy.run_path(str(TICKETS))["write_tickets"](path)
    return ["task=textclf", f"task.data={path}", "task.text_column=text", "task.label_column=label"]


def search(out: Path, minutes: float, words: list[str]) -> dict[str, Any]:
    """Return the record of a search, done if it is missing."""
    path = out / "tune.json"
    if not path.is_file():
        command = [sys.executable, "-m", "seqlab", "tune", *words, "trainer.threads=1"]
        command += ["--minutes", str(minutes), "--processes", "1", "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return record


def difference(values: list[float]) -> str:
    """Return the mean of differences with its 95 % interval by Student's t."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.3f} ± {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--names", type=Path, help="folder of the names, instead of the bundled ones")
    parser.add_argument("--metric", default="macro_f1")
    parser.add_argument("--out", type=Path, default=Path("runs/tuned_text"))
    asked = parser.parse_args()
    lines = [
        f"| set | {' | '.join(ROWS)} | winner - linear | winner - default |",
        "|---|" + "---|" * (len(ROWS) + 2),
    ]
    for name in asked.sets:
        words = words_of(name, asked.out, asked.names)
        scores: dict[str, list[float]] = {}
        for split in range(asked.splits):
            out = asked.out / f"{asked.minutes:g}_minutes" / name / f"split_{split}"
            record = search(out, asked.minutes, [*words, f"task.split_seed={split}", f"seed={split}"])
            row = {model["title"]: model["test"][asked.metric] for model in record["models"]}
            trials = {trial["number"]: trial["words"] for trial in record["trials"]}
            for title in ROWS:  # the winner stands once, whatever else it is
                scores.setdefault(title, []).append(row.get(title, row["winner"]))
            winner = " ".join(word for word in trials[record["models"][0]["trial"]] if not word.startswith("task"))
            print(f"{name}, split {split}, {len(trials)} trials: {row}; {record['verdict']}; {winner}", flush=True)
        means = [statistics.mean(scores[title]) for title in ROWS]
        against = [
            difference([one - other for one, other in zip(scores["winner"], scores[title], strict=True)])
            for title in ("linear baseline", "default model")
        ]
        lines.append(f"| {name} | {' | '.join([*(f'{mean:.3f}' for mean in means), *against])} |")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
