"""``reproduce [RECIPE]``: runs with the settings of a paper, compared with its figures."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, final

from seqlab.cli.arguments import add_overrides, refuse_words, with_config_dir
from seqlab.cli.output import Output
from seqlab.cli.parser import Parser, integer
from seqlab.errors import UserError
from seqlab.study.recipes import Recipe, Row, load, names
from seqlab.study.report.runs import REPLICATES

_FOLDER = Path("runs") / "reproduce"
FIGURES = "reproduced.json"


@final
@dataclass(frozen=True)
class Attempt:
    """Runs of one row of a recipe: test metrics of the finished ones, and mean time and examples of training."""

    row: Row
    folder: Path
    values: tuple[float, ...]
    unfinished: int
    parameters: int | None = None
    minutes: float | None = None
    examples: int | None = None


def main(arguments: list[str]) -> int:
    """List the recipes or run one; the exit code is 1 if a run is not finished, whatever its figure."""
    args = _parse(arguments)
    out = Output()
    if args.recipe is None:
        _list(out)
        return 0
    recipe = load(args.recipe)
    rows = _chosen(recipe, args.only)
    seeds = args.seeds or (1 if args.quick else recipe.seeds)
    out.print_line(recipe.name, "bold")
    out.print_line(f"{recipe.title}\n{recipe.source}")
    for label, lines in (("as in the paper", recipe.same), ("differs from the paper", recipe.ours)):
        for line in lines:
            out.print_line(f"{label}: {line}")
    attempts = []
    for row in rows:
        folder, overrides = _sweep(recipe, row, args)
        if not args.look and not _run(folder, overrides, seeds):
            return 1
        attempts.append(_attempt(recipe, row, folder, seeds))
    verdicts = ["quick run" if args.quick else recipe.judge(each.row, each.values) for each in attempts]
    _show(recipe, attempts, verdicts, out)
    if any(attempt.values for attempt in attempts):
        _write(recipe, attempts, verdicts, args, out)
    return int(any(attempt.unfinished for attempt in attempts))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "reproduce",
        description="Without a recipe, list the recipes. With one, run the settings of a paper, each row as a sweep "
        "that can be resumed, and compare our figures with the published ones.",
    )
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="such as tcn/adding600, or a YAML file of yours")
    add_overrides(parser, "further settings, such as task.data_dir=FOLDER")
    parser.add_argument("--seeds", type=integer(1), metavar="N", help="runs of each row (as in the recipe)")
    parser.add_argument("--only", metavar="LABEL,...", help="only these rows")
    parser.add_argument("--quick", action="store_true", help="train for seconds, to test the recipe")
    parser.add_argument("--look", action="store_true", help="run nothing; show the figures of finished runs")
    args = parser.parse(arguments)
    if args.recipe is not None and "=" in args.recipe:
        raise UserError(f"{args.recipe} is no recipe; name one first: {', '.join(names())}")
    refuse_words(args.overrides, "reproduce takes one recipe")
    args.overrides = with_config_dir(args)
    return args


def _list(out: Output) -> None:
    rows = []
    for name in names():
        recipe = load(name)
        figures = "\n".join(f"{row.label}: {recipe.metric} {row.format_value()}" for row in recipe.rows)
        minutes = "" if recipe.minutes is None else f"{recipe.minutes:g} min"
        rows.append((name, recipe.title, figures, minutes, "data" if recipe.needs else ""))
    out.print_table(("recipe", "title", "published", "time per run", "needs"), rows)
    out.print_line("python -m seqlab reproduce RECIPE [--seeds N] [--only LABEL,...] [--quick] [key=value ...]")


def _chosen(recipe: Recipe, only: str | None) -> Sequence[Row]:
    if only is None:
        return recipe.rows
    wanted = [label.strip() for label in only.split(",")]
    labels = [row.label for row in recipe.rows]
    if unknown := [label for label in wanted if label not in labels]:
        raise UserError(f"--only {unknown[0]}: {recipe.name} has no such row; it has {', '.join(labels)}")
    return [row for row in recipe.rows if row.label in wanted]


def _sweep(recipe: Recipe, row: Row, args: argparse.Namespace) -> tuple[Path, list[str]]:
    """Return the folder of a row's sweep, which does not depend on the number of seeds, and its overrides."""
    from seqlab.sweeps.plan import sweep_key

    overrides = [*recipe.words, *row.words, *(recipe.quick if args.quick else ()), *args.overrides]
    _first_seed(overrides)
    label = re.sub(r"\W+", "-", row.label)
    return _FOLDER / recipe.name / f"{label}_{sweep_key(overrides)[:8]}", overrides


def _first_seed(overrides: Sequence[str]) -> int:
    """Return the seed of the first run of a row."""
    from seqlab.sweeps.overrides import expand_each, override_key

    first = 0
    for found in expand_each(overrides):
        key, value = override_key(found[0]), found[0].partition("=")[2]
        if key == "seed" and len(found) == 1 and value.isdecimal():
            first = int(value)
        elif key == "seed":
            raise UserError(f"seed must be one whole number, from which --seeds counts, got {len(found)} values")
        elif len(found) > 1 and key not in REPLICATES:
            raise UserError(f"{key} must have one value, since a row of a recipe is one setting, got {len(found)}")
    return first


def _run(folder: Path, overrides: Sequence[str], seeds: int) -> bool:
    """Finish the runs of a row; return whether they could be composed."""
    from seqlab.cli.train import train
    from seqlab.io.formatting import hydra_override
    from seqlab.sweeps.ledger import SWEEP

    first = _first_seed(overrides)
    chosen = ",".join(map(str, range(first, first + seeds)))
    train(["-m", *overrides, f"seed={chosen}", hydra_override("hydra.sweep.dir", str(folder))])
    return (folder / SWEEP).is_file()


def _attempt(recipe: Recipe, row: Row, folder: Path, seeds: int) -> Attempt:
    from seqlab.runs.run_folder import RESULTS, read_json
    from seqlab.sweeps.ledger import SWEEP, read_entries

    entries = read_entries(folder) if (folder / SWEEP).is_file() else []
    records = [read_json(folder / entry.name / RESULTS) for entry in entries if entry.state == "done"]
    values = [recipe.value(record) for record in records]
    if not records:
        return Attempt(row, folder, (), len(entries) or seeds)
    costs = [record["cost"] for record in records]
    minutes = fmean(cost["training_seconds"] for cost in costs) / 60
    examples = round(fmean(cost["examples_per_second"] * cost["training_seconds"] for cost in costs))
    return Attempt(row, folder, tuple(values), len(entries) - len(records), costs[0]["parameters"], minutes, examples)


def _show(recipe: Recipe, attempts: Sequence[Attempt], verdicts: Sequence[str], out: Output) -> None:
    direction = "smaller" if recipe.mode == "min" else "larger"
    out.print_table(
        ("setting", "ours", "runs", "published", "verdict", "parameters", "minutes"),
        map(_cells, attempts, verdicts),
        right=("ours", "runs", "published", "parameters", "minutes"),
        title=f"test {recipe.metric}{', mean over further lengths' * recipe.beyond}, {direction} is better",
    )
    if recipe.theirs_is:
        out.print_line(f"published: {recipe.theirs_is}")
    out.print_line(f"reached: mean of our runs within {recipe.tolerance:.0%} of the published figure")


def _cells(attempt: Attempt, verdict: str) -> list[str]:
    values, row = attempt.values, attempt.row
    if not values:
        return [row.label, "", f"0 of {attempt.unfinished}", row.format_value(), verdict, "", ""]
    spread = f"\n{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else ""
    runs = f"{len(values)}" if not attempt.unfinished else f"{len(values)} of {len(values) + attempt.unfinished}"
    cost = [f"{attempt.parameters:,}", f"{attempt.minutes:.1f}"]
    return [row.label, f"{fmean(values):.4g}{spread}", runs, row.format_value(), verdict, *cost]


def _write(
    recipe: Recipe, attempts: Sequence[Attempt], verdicts: Sequence[str], args: argparse.Namespace, out: Output
) -> None:
    from seqlab.io.atomic import write_json
    from seqlab.io.formatting import relative_path, shell_command

    path = _FOLDER / recipe.name / ("tried.json" if args.quick else FIGURES)
    command = shell_command("reproduce", args.recipe, *args.overrides)
    facts = {"recipe": recipe.name, "source": recipe.source, "metric": recipe.metric, "command": command}
    write_json(path, {"schema": 1, **facts, "rows": list(map(_plain, attempts, verdicts))})
    out.print_line(f"figures  {relative_path(path)}")


def _plain(attempt: Attempt, verdict: str) -> dict[str, Any]:
    return {
        "label": attempt.row.label,
        "ours": list(attempt.values),
        "theirs": attempt.row.theirs,
        "bound": attempt.row.bound,
        "verdict": verdict,
        "not_done": attempt.unfinished,
        "parameters": attempt.parameters,
        "sequences": attempt.examples,
        "minutes": attempt.minutes,
        "folder": str(attempt.folder),
    }
