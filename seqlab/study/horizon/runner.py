"""Runner of a horizon search: launches the runs of all rows side by side and records every decision."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.config.compose import Composer
from seqlab.errors import UserError
from seqlab.io.atomic import write_json
from seqlab.io.formatting import relative_path, shell_command
from seqlab.plugins.hydra_source import sources
from seqlab.runs.run_folder import RESULTS, read_json
from seqlab.runs.scores import deciding_verdict
from seqlab.study.horizon.limits import Cause, explain_limit, propose_intervention, read_diagnostics
from seqlab.study.horizon.search import Batch, Batches, Finding, Outcomes, Search
from seqlab.study.horizon.settings import Row, Settings, expand_rows
from seqlab.study.matching import match_size
from seqlab.study.report import write_report
from seqlab.study.report.horizons import interval
from seqlab.sweeps.ledger import read_entry, write_plan
from seqlab.sweeps.plan import run_name

log = logging.getLogger("seqlab")

FILE = "horizon.json"
SCHEMA = 1

Launch: TypeAlias = Callable[[Sequence[Sequence[str]]], Any]
"""Trains the runs with these overrides and returns when all have ended, in whatever state."""


@final
@dataclass(frozen=True)
class Trial:
    """One run of a search and its outcome.

    Attributes:
        name: of the run folder.
        state: ``done``, ``failed``, or ``missing`` for any other.
        solved: whether the run solves the validation split, which decides the search; ``None`` unless it is done.
        results: of ``results.json``: ``validation`` score, ``monitor``, ``cost``, and of the test split ``metrics`` and
            ``verdict``.
    """

    batch: Batch
    seed: int
    name: str
    state: Literal["done", "failed", "missing"]
    solved: bool | None
    results: Mapping[str, Any]
    overrides: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return the trial as it stands in ``horizon.json``."""
        return {
            "distance": self.batch.distance,
            "learning_rate": self.batch.rate,
            "seed": self.seed,
            "run": self.name,
            "state": self.state,
            "solved": self.solved,
            "validation": self.results.get("validation"),
            "metrics": self.results.get("metrics", {}),
            "verdict": self.results.get("valid_verdict"),
            "test_verdict": self.results.get("verdict"),
            "command": shell_command(*sources().arguments, *self.overrides),
        }


def read_trial(folder: Path, batch: Batch, seed: int, overrides: Sequence[str]) -> Trial:
    """Read the outcome of a run; damaged results count as missing."""
    state = read_entry(folder).state
    results: dict[str, Any] = {}
    solved = None
    if state == "done":
        try:
            record = read_json(folder / RESULTS)
            best = record["best"]
            results = {"metrics": record["metrics"]["test"], "cost": record["cost"], "verdict": record["verdict"]}
            results |= {"validation": best["valid"], "monitor": best["monitor"]}
            results["valid_verdict"] = deciding_verdict(record)
            solved = results["valid_verdict"] == "solved"
        except (UserError, KeyError, TypeError):
            state, results = "missing", {}
    known: Literal["done", "failed", "missing"] = state if state in ("done", "failed") else "missing"
    return Trial(batch, seed, folder.name, known, solved, results, tuple(overrides))


@final
@dataclass
class RowSearch:
    """The search for one row's horizon.

    Attributes:
        pending: batch to run next; ``None`` once the search has ended.
        limit: likely cause of the limit and its reason, once the search has ended.
    """

    row: Row
    search: Search
    batches: Batches
    pending: Batch | None = None
    trials: list[Trial] = field(default_factory=list)
    limit: tuple[Cause, str] | None = None

    @property
    def finding(self) -> Finding:
        """Result so far."""
        return self.search.finding

    @property
    def seconds(self) -> float:
        """Training time of the last run; the slowest rows start first, so that none runs alone at the end."""
        return max((_cost(trial).get("training_seconds", 0.0) for trial in self.trials[-1:]), default=0.0)

    def send(self, outcomes: Outcomes) -> None:
        """Hand the outcomes of the pending batch to the search."""
        try:
            self.pending = self.batches.send(outcomes)
        except StopIteration:
            self.pending = None

    def explain_limit(self, folder: Path) -> tuple[Cause, str]:
        """Return the likely cause of the limit and its reason, from the runs in the sweep's folder."""
        if self.pending is not None:
            return "unknown", "the search is not finished"
        if self.limit is None:
            finding, rules = self.finding, self.search.rules
            self.limit = explain_limit(
                [read_diagnostics(folder / trial.name) for trial in self._unsolved()],
                reached_the_end=finding.horizon == rules.grid.distances[-1],
                budget_limited=finding.budget_limited,
            )
        return self.limit

    def _unsolved(self) -> list[Trial]:
        """Return the unsolved trials at the smallest distance beyond the horizon, at the best rate if there are any."""
        finding = self.finding
        beyond = [
            trial
            for trial in self.trials
            if trial.batch.budget == 1 and trial.batch.distance > (finding.horizon or 0) and trial.solved is False
        ]
        nearest = min((trial.batch.distance for trial in beyond), default=0)
        found = [trial for trial in beyond if trial.batch.distance == nearest]
        return [trial for trial in found if trial.batch.rate == finding.learning_rate] or found


def _cost(trial: Trial) -> Mapping[str, Any]:
    cost: Mapping[str, Any] = trial.results.get("cost", {})
    return cost


@final
class SearchRunner:
    """Runner of a search.

    A stopped search runs again from its beginning: it takes the same decisions, since finished runs are not repeated
    and have the same outcomes.

    Args:
        folder: of the sweep.
        arguments: of the command line, behind ``-m``.
        overrides: the same without Hydra's own.
        settings: of the search.
        launch: trains runs.

    Raises:
        UserError: these overrides make no search.
        hydra.errors.HydraException: a row cannot be composed.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str], overrides: Sequence[str], settings: Settings, launch: Launch
    ) -> None:
        self.folder, self.arguments, self.settings, self._launch = folder, list(arguments), settings, launch
        self.command = shell_command("-m", *arguments)
        rows = expand_rows(overrides, settings)
        if settings.match != "none":
            rows = _matched_rows(rows, settings)
        searches = [Search(settings.rules) for _ in rows]
        self.searches = [RowSearch(row, search, search.batches()) for row, search in zip(rows, searches, strict=True)]
        self._planned: dict[str, Sequence[str]] = {}
        self._composer = Composer()

    def run(self) -> None:
        """Run batches until every row's search has ended, and record each decision in ``horizon.json``."""
        for each in self.searches:
            each.pending = next(each.batches)
        while waiting := [each for each in self.searches if each.pending is not None]:
            self._run_pending(waiting)
            write_json(self.folder / FILE, self.record())
        write_plan(self.folder, self.arguments, self._planned, open=not self.finished)

    @property
    def finished(self) -> bool:
        """Whether the search of every row is complete."""
        return all(each.finding.finished for each in self.searches)

    @property
    def runs(self) -> int:
        """Number of runs so far."""
        return len({trial.name for each in self.searches for trial in each.trials})

    @property
    def grid_runs(self) -> int:
        """Number of runs of the full grid: all distances up to the largest tried on a task, rates, seeds and rows."""
        rules, total = self.settings.rules, 0
        for task in {each.row.task for each in self.searches}:
            searches = [each for each in self.searches if each.row.task == task]
            largest = max((trial.batch.distance for each in searches for trial in each.trials), default=0)
            total += rules.grid.count_up_to(largest) * len(rules.rates) * len(rules.seeds) * len(searches)
        return total

    def _run_pending(self, waiting: Sequence[RowSearch]) -> None:
        runs = [(each, each.pending, seed) for each in waiting if each.pending for seed in each.pending.seeds]
        overrides = [each.row.run_overrides(batch, seed) for each, batch, seed in runs]
        names = [run_name(config) for config in self._composer.all(overrides)]
        self._planned |= dict(zip(names, overrides, strict=True))
        slowest = sorted(zip(runs, names, strict=True), key=lambda run: run[0][0].seconds, reverse=True)
        if left := [name for _, name in slowest if read_entry(self.folder / name).state != "done"]:
            write_plan(self.folder, self.arguments, self._planned, open=True)
            self._launch([self._planned[name] for name in left])
        for (each, batch, seed), name, own in zip(runs, names, overrides, strict=True):
            each.trials.append(read_trial(self.folder / name, batch, seed, own))
        for each in waiting:
            self._decide(each)

    def _decide(self, each: RowSearch) -> None:
        batch = each.pending
        assert batch is not None
        outcomes = {trial.seed: trial.solved for trial in each.trials if trial.batch is batch}
        each.send(outcomes)
        solved, finding = sum(outcome is True for outcome in outcomes.values()), each.finding
        line = f"{each.row.name} at {batch.distance}, learning rate {batch.rate:g}"
        if batch.budget > 1:
            line += f", {batch.budget} times the budget"
        line += f": {solved} of {len(outcomes)} solve it; horizon so far {finding.horizon or 'none'}; {self.runs} runs"
        if each.pending is None and finding.finished:
            line += ", done"
        elif each.pending is None:
            line += f", undecided, as runs failed: see {shell_command('status', relative_path(self.folder))}"
        log.info(line)

    def record(self) -> dict[str, Any]:
        """Return the content of ``horizon.json``."""
        monitors = {trial.results["monitor"] for each in self.searches for trial in each.trials if trial.results}
        return {
            "schema": SCHEMA,
            "command": self.command,
            "settings": asdict(self.settings),
            "metric": ", ".join(sorted(monitors)),
            "runs": self.runs,
            "grid_runs": self.grid_runs,
            "finished": self.finished,
            "rows": [self._row_record(each) for each in self.searches],
        }

    def _row_record(self, each: RowSearch) -> dict[str, Any]:
        finding, row = each.finding, each.row
        cost = next((_cost(trial) for trial in each.trials if trial.results), {})
        cause, reason = each.explain_limit(self.folder)
        return {
            "label": row.label,
            "words": [*row.overrides, *row.sized],
            "task": row.task,
            "task_words": list(row.task_overrides),
            **asdict(finding),
            "parameters": cost.get("parameters"),
            "hidden_size": row.hidden_size,
            "state_size": cost.get("state_size"),
            "cause": cause,
            "because": reason,
            "intervention": propose_intervention(row, cause, finding, self.settings, self.arguments),
            "trials": [trial.record() for trial in each.trials if trial.batch.budget == 1],
            "longer": [
                {"budget": trial.batch.budget, **trial.record()} for trial in each.trials if trial.batch.budget > 1
            ],
        }


def _matched_rows(rows: list[Row], settings: Settings) -> list[Row]:
    """Give the rows of a task the hidden size that matches the task's first row."""
    assert settings.match != "none"
    found: list[Row] = []
    for row in rows:
        reference = next(other for other in rows if other.task == row.task)
        override, count, target = match_size(row.config, reference.config, settings.match)
        if row is not reference:
            size = override or "hidden size unchanged"
            log.info(f"{row.name}: {size}, {settings.match} {count:,}; {reference.name} has {target:,}")
            row = replace(row, sized=() if override is None else (override,))
        found.append(row)
    return found


def finish_search(folder: Path) -> None:
    """Print the results of a search and write its report."""
    console = Console(highlight=False)
    show_search(read_json(folder / FILE), console)
    console.print(f"search        {relative_path(folder / FILE)}", soft_wrap=True)
    try:
        write_report([folder], folder / "report")
    except UserError as error:
        console.print(f"no report: {error}", soft_wrap=True)
    else:
        console.print(f"report        {relative_path(folder / 'report')}", soft_wrap=True)


def show_search(record: Mapping[str, Any], console: Console) -> None:
    """Print the table of ``horizon.json``, and the cause and intervention of each row."""
    runs, grid = record["runs"], record["grid_runs"]
    share = f", {runs / grid:.0%} of the {grid:,} of the full grid" if grid else ""
    table = Table(title=f"horizon: {runs:,} runs{share}", title_justify="left")
    for column in ("task", "row", "horizon", "interval", "learning rate", "parameters", "cause"):
        table.add_column(column, justify="right" if column in ("horizon", "interval", "parameters") else "left")
    for row in record["rows"]:
        table.add_row(
            escape(row["task"]),
            escape(row["label"]),
            f"{row['horizon'] or 'none'}{'' if row['finished'] else ' so far'}",
            interval(row),
            f"{row['learning_rate']:g}" if row["learning_rate"] else "",
            f"{row['parameters']:,}" if row["parameters"] else "",
            f"{row['cause']}{', budget-limited' if row['budget_limited'] else ''}",
        )
    console.print(table)
    verdicts = {trial.get("verdict") for row in record["rows"] for trial in row["trials"]}
    if verdicts - {None} == {"at chance"}:
        console.print("no row learned: none is better than the input-independent baseline", soft_wrap=True)
    for row in record["rows"]:
        line = f"{row['task']}, {row['label']}: {row['because']}"
        if row["intervention"]:
            line += f"; try {row['intervention']['text']}:\n  {row['intervention']['command']}"
        console.print(escape(line), soft_wrap=True)
