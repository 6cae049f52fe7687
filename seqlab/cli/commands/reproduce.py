"""``reproduce [RECIPE]``: run a paper's settings, and put our figures beside theirs."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.cli.arguments import add_config_dir, with_config_dir
from seqlab.cli.parser import Parser
from seqlab.errors import UserError
from seqlab.study.recipes import Recipe, Row, load, names
from seqlab.study.report.runs import REPLICATES

_FOLDER = Path("runs") / "reproduce"
FIGURES = "reproduced.json"


def main(arguments: list[str]) -> int:
    """List the recipes, or run one; the exit code is 1 if a run is not done, whatever its figure."""
    asked = _asked(arguments)
    console = Console(highlight=False)
    if asked.recipe is None:
        _list(console)
        return 0
    recipe = load(asked.recipe)
    rows = _chosen(recipe, asked.only)
    seeds = asked.seeds or (1 if asked.quick else recipe.seeds)
    console.print(
        f"[bold]{escape(recipe.name)}[/bold]: {escape(recipe.title)}\n{escape(recipe.source)}", soft_wrap=True
    )
    for what, lines in (("theirs too", recipe.same), ("ours alone", recipe.ours)):
        for line in lines:
            console.print(f"{what}: {escape(line)}", soft_wrap=True)
    attempts = []
    for row in rows:
        folder, words = _sweep(recipe, row, asked)
        if not asked.look and not _run(folder, words, seeds):
            return 1
        attempts.append(_found(recipe, row, folder))
    _tell(recipe, attempts, asked, console)
    return 0 if all(attempt.left == 0 for attempt in attempts) else 1


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "reproduce",
        description="Without a recipe, list those there are. With one, run the settings of a paper, each row as a sweep"
        " that goes on where it was left, and put our figures beside theirs.",
    )
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="such as tcn/adding600, or a YAML file of yours")
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", help="further settings, such as task.data_dir=FOLDER"
    )
    add_config_dir(parser)
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each row (the recipe's)")
    parser.add_argument("--only", metavar="LABEL,...", help="these rows alone")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, to see that it runs at all")
    parser.add_argument("--look", action="store_true", help="run nothing: the figures of what was run before")
    asked = parser.parse_intermixed_args(arguments)
    if asked.recipe is not None and "=" in asked.recipe:
        raise UserError(f"{asked.recipe} is no recipe; name one first: {', '.join(names())}")
    if wrong := [word for word in asked.overrides if "=" not in word and not word.startswith("~")]:
        raise UserError(f"{wrong[0]}: there is one recipe at a time; further settings are key=value")
    asked.overrides = with_config_dir(asked)
    if asked.seeds is not None and asked.seeds < 1:
        raise UserError(f"--seeds is {asked.seeds}; it must be at least 1")
    return asked


def _list(console: Console) -> None:
    table = Table("recipe", "what", "theirs", "a run", "needs")
    for name in names():
        recipe = load(name)
        figures = "\n".join(f"{row.label}: {recipe.metric} {row.shown()}" for row in recipe.rows)
        cost = "" if recipe.minutes is None else f"{recipe.minutes:g} min"
        table.add_row(name, escape(recipe.title), escape(figures), cost, "data" if recipe.needs else "")
    console.print(table)
    console.print("python -m seqlab reproduce RECIPE [--seeds N] [--only LABEL,...] [--quick] [key=value ...]")


def _chosen(recipe: Recipe, only: str | None) -> Sequence[Row]:
    if only is None:
        return recipe.rows
    wanted = [label.strip() for label in only.split(",")]
    labels = [row.label for row in recipe.rows]
    if unknown := [label for label in wanted if label not in labels]:
        raise UserError(f"--only {unknown[0]}: {recipe.name} has no such row; it has {', '.join(labels)}")
    return [row for row in recipe.rows if row.label in wanted]


@final
@dataclass(frozen=True)
class Attempt:
    """What our runs of a row found.

    Attributes:
        row: theirs.
        folder: of the sweep.
        values: the compared metric of each run that is done.
        left: runs that are not.
        parameters: of the model.
        minutes: of training, a run.
        examples: trained on, a run.
    """

    row: Row
    folder: Path
    values: tuple[float, ...]
    left: int
    parameters: int | None
    minutes: float | None
    examples: int | None


def _sweep(recipe: Recipe, row: Row, asked: argparse.Namespace) -> tuple[Path, list[str]]:
    """Choose the folder of a row's sweep, the same one for more seeds of it, and the words that its runs share."""
    from seqlab.sweeps.plan import sweep_key

    words = [*recipe.words, *row.words, *(recipe.quick if asked.quick else ()), *asked.overrides]
    _first_seed(words)
    label = re.sub(r"\W+", "-", row.label)
    return _FOLDER / recipe.name / f"{label}_{sweep_key(words)[:8]}", words


def _first_seed(words: Sequence[str]) -> int:
    """Return the seed that the runs of a row are counted from.

    Raises:
        UserError: an override makes several settings of a row, whose mean would be taken for one.
    """
    from seqlab.sweeps.overrides import expand_each, override_key

    first = 0
    for found in expand_each(words):
        key, value = override_key(found[0]), found[0].partition("=")[2]
        if key == "seed" and len(found) == 1 and value.isdecimal():
            first = int(value)
        elif key == "seed":
            raise UserError(f"seed must be one whole number, from which --seeds counts, got {len(found)} values")
        elif len(found) > 1 and key not in REPLICATES:
            raise UserError(f"{key} must have one value, since a row of a recipe is one setting, got {len(found)}")
    return first


def _run(folder: Path, words: Sequence[str], seeds: int) -> bool:
    """Do the runs of a row that are not done; false where they cannot be composed, which was told then."""
    from seqlab.cli.train import train
    from seqlab.runs.commands import hydra_override
    from seqlab.sweeps.ledger import SWEEP

    first = _first_seed(words)
    chosen = ",".join(map(str, range(first, first + seeds)))
    train(["-m", *words, f"seed={chosen}", hydra_override("hydra.sweep.dir", str(folder))])
    return (folder / SWEEP).is_file()


def _found(recipe: Recipe, row: Row, folder: Path) -> Attempt:
    from seqlab.runs.run_folder import RESULTS, read_json
    from seqlab.sweeps.ledger import SWEEP, read_entries

    entries = read_entries(folder) if (folder / SWEEP).is_file() else []
    records = [read_json(folder / entry.name / RESULTS) for entry in entries if entry.state == "done"]
    values = []
    for record in records:
        test = record["metrics"]["test"]
        if test.get(recipe.metric) is None:
            raise UserError(f"{recipe.name}: metric is {recipe.metric}; the run has {', '.join(test)}")
        values.append(float(test[recipe.metric]))
    if not records:
        return Attempt(row, folder, (), max(1, len(entries)), None, None, None)
    costs = [record["cost"] for record in records]
    minutes = fmean(cost["training_seconds"] for cost in costs) / 60
    examples = round(fmean(cost["examples_per_second"] * cost["training_seconds"] for cost in costs))
    return Attempt(row, folder, tuple(values), len(entries) - len(records), costs[0]["parameters"], minutes, examples)


def _tell(recipe: Recipe, attempts: Sequence[Attempt], asked: argparse.Namespace, console: Console) -> None:
    from seqlab.io.atomic import write_json
    from seqlab.io.formatting import relative_path
    from seqlab.runs.commands import shell_command

    direction = "smaller" if recipe.mode == "min" else "larger"
    title = f"test {recipe.metric}, {direction} is better"
    table = Table(title=title, title_justify="left")
    for column in ("", "ours", "runs", "theirs", "verdict", "parameters", "minutes"):
        table.add_column(column, justify="left" if column in ("", "verdict") else "right")
    record: list[dict[str, Any]] = []
    for attempt in attempts:
        verdict = "only a try" if asked.quick else recipe.judge(attempt.row, attempt.values)
        table.add_row(*_cells(attempt, verdict))
        record.append(_plain(attempt, verdict))
    console.print(table)
    if recipe.theirs_is:
        console.print(f"theirs: {escape(recipe.theirs_is)}", soft_wrap=True)
    console.print(f"reached: within {recipe.tolerance:.0%} of theirs, in the mean of our runs", soft_wrap=True)
    if not any(attempt.values for attempt in attempts):
        return
    path = _FOLDER / recipe.name / ("tried.json" if asked.quick else FIGURES)
    typed = shell_command("reproduce", asked.recipe, *asked.overrides)
    facts = {"recipe": recipe.name, "source": recipe.source, "metric": recipe.metric, "command": typed}
    write_json(path, {"schema": 1, **facts, "rows": record})
    console.print(f"figures  {relative_path(path)}", soft_wrap=True)


def _cells(attempt: Attempt, verdict: str) -> list[str]:
    values, row = attempt.values, attempt.row
    if not values:
        return [escape(row.label), "", f"0 of {attempt.left}", row.shown(), verdict, "", ""]
    spread = f"\n{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else ""
    runs = f"{len(values)}" if not attempt.left else f"{len(values)} of {len(values) + attempt.left}"
    cost = [f"{attempt.parameters:,}", f"{attempt.minutes:.1f}"]
    return [escape(row.label), f"{fmean(values):.4g}{spread}", runs, row.shown(), verdict, *cost]


def _plain(attempt: Attempt, verdict: str) -> dict[str, Any]:
    return {
        "label": attempt.row.label,
        "ours": list(attempt.values),
        "theirs": attempt.row.theirs,
        "bound": attempt.row.bound,
        "verdict": verdict,
        "not_done": attempt.left,
        "parameters": attempt.parameters,
        "sequences": attempt.examples,
        "minutes": attempt.minutes,
        "folder": str(attempt.folder),
    }
