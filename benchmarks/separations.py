"""State tracking that theory allows or forbids, as trained: parity, S3 and A5 by kind of cell.

    python benchmarks/separations.py --to FOLDER [--jobs 2] [--tasks A5] [--cells gru "deltanet*"]
        [--figure F.png] [--csv F.csv]

Runs train on lengths that grow to T and are tested at T and 4 T. With --together, those of a cell train as one
computation; validation chooses the learning rate, but one at which a run failed is out. Finished runs are not repeated,
others are resumed, and failed ones are tried again.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from seqlab.io.csv_files import csv_text
from seqlab.runs.results import read_results
from seqlab.study.card.pool import Pool, run_folder
from seqlab.study.intervals import share_interval
from seqlab.sweeps.ledger import read_entry

POSITIVE = ("mingru", "selective_ssm", "deltanet cell.heads=4")
SIGNED = ("signed_mingru", *(f"{cell} cell.negative_eigenvalues=true" for cell in POSITIVE[1:]))
NONLINEAR = ("lstm", "gru", "slstm")
DIAGONAL = ("mingru", "signed_mingru", "minlstm", "selective_ssm", "lru", "rg_lru")

SHARED = (
    "model=recurrent", "model.embedding_size=64", "optimizer.schedule=constant", "optimizer.warmup=0",
    "optimizer.weight_decay=0", "task.lengths=curriculum", "task.start_length=2", "task.held_out=2000",
    "trainer.max_epochs=null", "trainer.early_stopping=null", "trainer.threads=1", "trainer.progress=false",
    "trainer.stop_when_solved=8", "logger=none",
)  # fmt: skip
LONGER = 4
"""Times the training length at which the models are tested, too."""


@dataclass(frozen=True)
class Question:
    """A task, and the kinds of cells that are compared on it.

    Attributes:
        words: overrides of its runs.
        length: largest training length T.
        kinds: cells, by what theory says of them.
    """

    words: tuple[str, ...]
    length: int
    kinds: Mapping[str, Sequence[str]]


TASKS = {
    "parity": Question(
        ("task=parity", "cell.hidden_size=64", "data.batch_size=64", "trainer.max_steps=4000"),
        20,
        {"positive": POSITIVE, "signed": SIGNED, "nonlinear": NONLINEAR},
    ),
    "S3": Question(
        ("task=word_problem", "task.group=S3", "cell.hidden_size=64", "data.batch_size=64", "trainer.max_steps=4000"),
        20,
        {"nonlinear": NONLINEAR, "diagonal": DIAGONAL},
    ),
    "A5": Question(
        ("task=word_problem", "task.group=A5", "task.generators=true", "cell.hidden_size=128", "data.batch_size=128",
         "trainer.max_steps=4000"),
        16,
        {"nonlinear": NONLINEAR, "diagonal": DIAGONAL},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Scores of a cell on a task at the chosen learning rate.

    Attributes:
        scores: test accuracy of each seed, by length.
        baseline: of a prediction that ignores the input, by length.
        examples: of the test split.
    """

    task: str
    kind: str
    cell: str
    rate: float
    scores: Mapping[int, Sequence[float]]
    baseline: Mapping[int, float]
    examples: int


def overrides(task: str, cell: str, rate: float, seed: int) -> tuple[str, ...]:
    """Return the overrides of a run."""
    question = TASKS[task]
    name, *options = cell.split()
    lengths = [
        f"task.sequence_length={question.length}",
        f"task.eval_lengths={[question.length, LONGER * question.length]}",
    ]
    own = [word.replace(" ", "") for word in lengths]
    stop = "trainer.stop_when_solved=8"
    return (*SHARED, *question.words, *own, stop, f"cell={name}", *options, f"optimizer.lr={rate:g}", f"seed={seed}")


def chosen(tasks: Sequence[str], patterns: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield task, kind and cell of the rows whose cell matches a pattern."""
    for task in tasks:
        for kind, cells in TASKS[task].kinds.items():
            for cell in cells:
                if any(fnmatch(cell, each) for each in patterns):
                    yield task, kind, cell


def read_row(folder: Path, task: str, kind: str, cell: str, args: argparse.Namespace) -> Row | None:
    """Read the runs of a cell at the rate that validation chooses, of those at which none failed.

    Returns:
        ``None`` if some are not done.
    """
    found = {}
    for rate in args.rates:
        places = [run_folder(folder, overrides(task, cell, rate, seed)) for seed in range(args.seeds)]
        states = {read_entry(place).state for place in places}
        if "failed" in states:  # such as by a loss that is not finite
            continue
        if states != {"done"}:
            return None
        found[rate] = [read_results(place) for place in places]
    if not found:
        return None
    rate = max(found, key=lambda rate: statistics.fmean(_reached(record) for record in found[rate]))
    tests = [{row["split"]: row for row in record["tables"]["further_tests"]} for record in found[rate]]
    lengths = [TASKS[task].length, LONGER * TASKS[task].length]
    scores = {length: [test[f"length {length}"]["accuracy"] for test in tests] for length in lengths}
    baseline = {length: tests[0][f"length {length}"]["chance_accuracy"] for length in lengths}
    return Row(task, kind, cell, rate, scores, baseline, found[rate][0]["data"]["test"]["examples"])


def _reached(record: Mapping[str, Any]) -> float:
    """Return the length that a run solves on validation, and its validation score as a fraction."""
    return (record["lengths"]["reached"] or 0) + record["metrics"]["valid"]["accuracy"]


def verdict(row: Row, rows: Sequence[Row]) -> tuple[str, bool]:
    """Return what theory demands of a row, and whether it holds."""
    short, long = sorted(row.scores)
    if row.kind == "positive":
        mean, count = statistics.fmean(row.scores[long]), row.examples
        low = share_interval(mean * count, count).low
        return f"no better than the baseline at {long}", low is not None and low <= row.baseline[long]
    if row.kind == "diagonal":
        if row.task != "A5":  # solvable: theory forbids nothing
            return "", True
        others = [min(each.scores[short]) for each in rows if (each.task, each.kind) == ("A5", "nonlinear")]
        return f"below the nonlinear ones at {short}", bool(others) and max(row.scores[short]) < min(others)
    least = 0.95 if row.kind == "signed" else 0.99
    return f">= {least:g} at {short}", min(row.scores[short]) >= least


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    made = []
    for row in rows:
        demand, holds = verdict(row, rows)
        facts: dict[str, Any] = {"task": row.task, "cell": row.cell.replace("cell.", ""), "kind": row.kind}
        for length, name in zip(sorted(row.scores), ("T", f"{LONGER} T"), strict=True):
            scores = row.scores[length]
            facts |= {
                f"{name}: mean": f"{statistics.fmean(scores):.4f}",
                f"{name}: worst": f"{min(scores):.4f}",
                f"{name}: best": f"{max(scores):.4f}",
                f"{name}: baseline": f"{row.baseline[length]:.4f}",
            }
        made.append({**facts, "learning rate": f"{row.rate:g}", "demand": demand, "holds": "yes" if holds else "NO"})
    return made


def draw(rows: Sequence[Row], figure: Path) -> None:
    """Draw the scores of each seed at T (filled) and 4 T (open), and the baselines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tasks = list(dict.fromkeys(row.task for row in rows))
    count = [sum(row.task == task for row in rows) for task in tasks]
    canvas = Figure(figsize=(2.4 + 0.42 * sum(count), 4.4), layout="constrained")
    FigureCanvasAgg(canvas)
    colours = {"positive": "C3", "diagonal": "C1", "signed": "C2", "nonlinear": "C0"}
    for axes, task in zip(canvas.subplots(1, len(tasks), width_ratios=count, squeeze=False)[0], tasks, strict=True):
        own = [row for row in rows if row.task == task]
        for place, row in enumerate(own):
            for length, fill in zip(sorted(row.scores), (colours[row.kind], "none"), strict=True):
                x = [place + (0.15 if fill == "none" else -0.15)] * len(row.scores[length])
                axes.scatter(x, row.scores[length], s=22, facecolors=fill, edgecolors=colours[row.kind])
        axes.axhline(statistics.fmean(own[0].baseline.values()), color="grey", linestyle=":")
        short, long = sorted(own[0].scores)
        axes.set_title(f"{task}: {short} (filled), {long} steps")
        labels = [_label(row.cell) for row in own]
        axes.set_xticks(range(len(own)), labels, rotation=60, ha="right", fontsize=7)
        axes.set_ylim(0, 1.03)
    canvas.axes[0].set_ylabel("test accuracy of each seed")
    kinds = [kind for kind in colours if any(row.kind == kind for row in rows)]
    marks = [Line2D([], [], color=colours[kind], marker="o", linestyle="none") for kind in kinds]
    baseline = Line2D([], [], color="grey", linestyle=":")
    canvas.legend([*marks, baseline], [*kinds, "baseline"], loc="outside lower right", ncols=5, fontsize=8)
    figure.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(figure, dpi=130)


def _label(cell: str) -> str:
    name, *options = cell.split()
    return f"{name}, signed" if "cell.negative_eigenvalues=true" in options else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=1, help="processes that train (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each cell and rate (%(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.003, 0.01], help="learning rates (%(default)s)")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--cells", nargs="+", default=["*"], help="patterns, such as 'deltanet*'")
    parser.add_argument("--together", action="store_true", help="train seeds and rates together")
    parser.add_argument("--read", action="store_true", help="train nothing: show the runs that are done")
    parser.add_argument("--csv", type=Path, help="write the table")
    parser.add_argument("--figure", type=Path, help="draw it")
    args = parser.parse_args()
    wanted = list(chosen(args.tasks, args.cells))
    if not args.read:
        runs = [
            overrides(task, cell, rate, seed)
            for task, _, cell in wanted
            for rate in args.rates
            for seed in range(args.seeds)
        ]
        with Pool(args.jobs, retry=True, fewest=2 if args.together else len(runs) + 1) as pool:
            pool.run(args.to, list(dict.fromkeys(runs)))
    rows = [row for each in wanted if (row := read_row(args.to, *each, args)) is not None]
    table = records(rows)
    for each in table:
        print("  ".join(str(value) for value in each.values()))
    if args.csv and table:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        args.csv.write_text(csv_text(table, list(table[0])), encoding="utf-8")
    if args.figure and rows:
        draw(rows, args.figure)
    if missing := len(wanted) - len(rows):
        print(f"{missing} of {len(wanted)} rows are not done")


if __name__ == "__main__":
    main()
