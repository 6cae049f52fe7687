"""Runner of a horizon search: all rows side by side, every decision recorded."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.config.compose import Composer
from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.runs.commands import shell_command
from seqlab.study.horizon.results import FILE, Cause, read_search, write_search
from seqlab.study.horizon.rows import Row, rows_of
from seqlab.study.horizon.search import Asking, Batch, Finding, Search
from seqlab.study.horizon.settings import Settings
from seqlab.study.horizon.trials import Trial, run_folders, trial_of
from seqlab.study.matching import match_size
from seqlab.study.report import write_report
from seqlab.study.report.horizons import interval
from seqlab.sweeps.ledger import entry_of, write_plan

if TYPE_CHECKING:
    pass


def finish_search(conductor: "SearchRunner") -> None:
    """Show the table, and write the report."""
    console = Console(highlight=False)
    show_search(read_search(conductor.folder), console)
    console.print(f"search        {relative_path(conductor.folder / FILE)}", soft_wrap=True)
    try:
        write_report([conductor.folder], conductor.folder / "report")
    except UserError as error:  # the search stands, whatever becomes of its report
        console.print(f"no report: {error}", soft_wrap=True)
    else:
        console.print(f"report        {relative_path(conductor.folder / 'report')}", soft_wrap=True)


def show_search(record: dict[str, Any], console: Console) -> None:
    """Print what ``horizon.json`` says: a table, and for each row its cause and what to try."""
    grid = record["grid_runs"]
    share = f", {record['runs'] / grid:.0%} of the {grid:,} of the full grid" if grid else ""
    table = Table(title=f"horizon: {record['runs']:,} runs{share}", title_justify="left")
    for column in ("task", "row", "horizon", "all to none", "learning rate", "parameters", "cause"):
        table.add_column(column, justify="right" if column in ("horizon", "all to none", "parameters") else "left")
    for row in record["rows"]:
        table.add_row(
            escape(row["task"]),
            escape(row["label"]),
            _horizon(row),
            interval(row),
            _or(row["learning_rate"], ""),
            f"{row['parameters']:,}" if row["parameters"] else "",
            f"{row['cause']}{', budget-limited' if row['budget_limited'] else ''}",
        )
    console.print(table)
    for row in record["rows"]:
        line = f"{row['task']}, {row['label']}: {row['because']}"
        if row["intervention"]:
            line += f"; try {row['intervention']['text']}:\n  {row['intervention']['command']}"
        console.print(escape(line), soft_wrap=True)


def _horizon(row: dict[str, Any]) -> str:
    text = _or(row["horizon"], "none")
    return text if row["finished"] else f"{text} so far"


def _or(value: Any, otherwise: str) -> str:
    return otherwise if value is None else f"{value:g}"


log = logging.getLogger("seqlab")

Launch: TypeAlias = Callable[[Sequence[Sequence[str]]], Any]
"""Does the runs of these words and comes back when they have ended, however they ended."""


@final
@dataclass
class RowSearch:
    """A row and its search.

    Attributes:
        row: of the table.
        search: of its horizon.
        asking: what the search asks for.
        pending: the batch that it waits for; ``None`` once there is nothing left to ask.
        trials: done so far.
        explained: the likely cause of its limit, once the search has ended.
    """

    row: Row
    search: Search
    asking: Asking
    pending: Batch | None = None
    trials: list[Trial] = field(default_factory=list)
    explained: tuple[Cause, str] | None = None

    @property
    def finding(self) -> Finding:
        """What is known now."""
        return self.search.finding

    @property
    def seconds(self) -> float:
        """How long the last run took; what takes longest is begun first, so that none is waited for alone."""
        return max((trial.seconds for trial in self.trials[-1:]), default=0.0)


@final
class SearchRunner:
    """Conducts a search.

    A search that was stopped is conducted again from its beginning: it decides the same, since finished runs answer as
    they did, and takes no time until it comes to the first one that is not.

    Attributes:
        lines: the rows with their searches.
        folder: of the sweep.
        settings: of the search.
        command: what was typed.

    Args:
        folder: of the sweep.
        words: what was typed behind ``-m``.
        typed: the same without what is Hydra's.
        settings: of the search.
        launch: does runs.

    Raises:
        UserError: the search cannot be made with these words.
        hydra.errors.HydraException: a row cannot be composed.
    """

    def __init__(
        self, folder: Path, words: Sequence[str], typed: Sequence[str], settings: Settings, launch: Launch
    ) -> None:
        self.folder, self.words, self.settings, self._launch = folder, list(words), settings, launch
        self.command = shell_command("-m", *words)
        rows = rows_of(typed, settings) if settings.match == "none" else _equal(rows_of(typed, settings), settings)
        searches = [Search(settings.rules) for _ in rows]
        self.lines = [RowSearch(row, search, search.ask()) for row, search in zip(rows, searches, strict=True)]
        self._planned: dict[str, Sequence[str]] = {}
        self._composer = Composer()

    def conduct(self) -> bool:
        """Ask until every row has its answer, or runs that failed leave nothing to be asked.

        Returns:
            Whether every row has its answer.
        """
        for line in self.lines:
            line.pending = next(line.asking)
        while waiting := [line for line in self.lines if line.pending is not None]:
            self._round(waiting)
            write_search(self)
        write_plan(self.folder, self.words, self._planned, open=not self.finished)
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether every row has its answer."""
        return all(line.finding.complete for line in self.lines)

    @property
    def runs(self) -> int:
        """Count the runs that were asked for."""
        return len({trial.name for line in self.lines for trial in line.trials})

    @property
    def grid_runs(self) -> int:
        """Count the runs of the full grid: each rung up to the largest tried on a task, every rate, seed and row."""
        rules, total = self.settings.rules, 0
        for task in {line.row.task for line in self.lines}:
            lines = [line for line in self.lines if line.row.task == task]
            largest = max((trial.batch.distance for line in lines for trial in line.trials), default=0)
            total += rules.ladder.up_to(largest) * len(rules.rates) * len(rules.seeds) * len(lines)
        return total

    def _round(self, waiting: Sequence[RowSearch]) -> None:
        asked = [(line, line.pending, seed) for line in waiting if line.pending for seed in line.pending.seeds]
        words = [line.row.run(batch, seed) for line, batch, seed in asked]
        names = run_folders(words, self._composer)
        self._planned |= dict(zip(names, words, strict=True))
        longest = sorted(zip(asked, names, strict=True), key=lambda each: each[0][0].seconds, reverse=True)
        left = [name for _, name in longest if entry_of(self.folder / name).state != "done"]
        if left:
            write_plan(self.folder, self.words, self._planned, open=True)
            self._launch([self._planned[name] for name in left])
        for (line, batch, seed), name in zip(asked, names, strict=True):
            line.trials.append(trial_of(line.row, batch, seed, name, self.folder))
        for line in waiting:
            self._answer(line)

    def _answer(self, line: RowSearch) -> None:
        batch = line.pending
        assert batch is not None
        answers = {trial.seed: trial.solved for trial in line.trials if trial.batch is batch}
        try:
            line.pending = line.asking.send(answers)
        except StopIteration:
            line.pending = None
        log.info(self._said(line, batch, answers))

    def _said(self, line: RowSearch, batch: Batch, answers: dict[int, bool | None]) -> str:
        solved, found = sum(answer is True for answer in answers.values()), line.finding
        what = f"{line.row.name} at {batch.distance}, learning rate {batch.rate:g}"
        if batch.budget > 1:
            what += f", {batch.budget} times the budget"
        text = (
            f"{what}: {solved} of {len(answers)} solve it; horizon so far {found.horizon or 'none'}; {self.runs} runs"
        )
        if line.pending is None:
            left_open = f", left open by runs that failed: see {shell_command('status', relative_path(self.folder))}"
            text += ", done" if found.complete else left_open
        return text


def _equal(rows: list[Row], settings: Settings) -> list[Row]:
    """Give the rows of a task the hidden size at which they cost what its first row costs."""
    assert settings.match != "none"
    found: list[Row] = []
    for row in rows:
        reference = next(other for other in rows if other.task == row.task)
        word, count, target = match_size(row.config, reference.config, settings.match)
        if row is reference:
            found.append(row)
            continue
        log.info(
            f"{row.name}: {word or 'as it is'}, {settings.match} {count:,}; those of {reference.name} are {target:,}"
        )
        found.append(replace(row, sized=() if word is None else (word,)))
    return found
