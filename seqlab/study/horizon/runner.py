"""Runner of a horizon search: launches the runs of all rows side by side and records every decision."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias, final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.config.compose import Composer
from seqlab.errors import UserError
from seqlab.io.atomic import write_json
from seqlab.io.formatting import relative_path, shell_command
from seqlab.runs.run_folder import read_json
from seqlab.study.horizon.limits import Cause, explain_drift, explain_limit, explain_optimisation, propose_intervention
from seqlab.study.horizon.settings import Row, Settings, expand_rows
from seqlab.study.horizon.trials import RowSearch, read_trial
from seqlab.study.matching import match_size
from seqlab.study.report import write_report
from seqlab.study.report.horizons import interval
from seqlab.sweeps.ledger import read_entry, write_plan
from seqlab.sweeps.plan import run_name

log = logging.getLogger("seqlab")

FILE = "horizon.json"
SCHEMA = 1
_CAUSES = 30
"""Rows up to which their causes are printed."""

Launch: TypeAlias = Callable[[Sequence[Sequence[str]]], Any]
"""Trains the runs with these overrides and returns when all have ended, in whatever state."""


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
        self.searches = [RowSearch.of(row, settings.rules) for row in rows]
        self._planned: dict[str, Sequence[str]] = {}
        self._composer = Composer()

    def run(self) -> None:
        """Run batches until every row's search has ended, and record each decision in ``horizon.json``."""
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
        """Number of runs of the full grid: all distances up to the largest tried on a task, rates, seeds and rows.

        Under a curriculum that is one run for each rate, seed and row.
        """

        def at_one_distance(searches: Iterable[RowSearch]) -> int:
            return sum(len(each.search.rules.rates) * self.settings.seeds for each in searches)

        total = at_one_distance(each for each in self.searches if each.row.protocol != "fixed")
        for task in {each.row.task for each in self.searches}:
            searches = [each for each in self.searches if (each.row.task, each.row.protocol) == (task, "fixed")]
            largest = max((trial.batch.distance for each in searches for trial in each.trials), default=0)
            total += self.settings.rules.grid.count_up_to(largest) * at_one_distance(searches)
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
        trials = [trial for trial in each.trials if trial.batch is batch]
        each.send(batch)
        finding = each.finding
        if each.is_curriculum:
            lengths = ", ".join("failed" if trial.reached is None else f"{trial.reached:,}" for trial in trials)
            line = f"{each.row.name}, curriculum, learning rate {batch.rate:g}: reached {lengths}"
        else:
            line = f"{each.row.name} at {batch.distance:,}, learning rate {batch.rate:g}"
            line += f", {batch.budget} times the budget" * (batch.budget > 1) + ", tested further" * batch.further
            line += f": {sum(trial.solved is True for trial in trials)} of {len(trials)} solve it"
        line += f"; horizon so far {_format_horizon(finding.horizon)}; {self.runs:,} runs"
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
        cost = next((trial.cost for trial in each.trials if trial.results), {})
        cause, reason = self._explain_limit(each)
        return {
            "label": row.label,
            "words": [*row.overrides, *row.sized],
            "task": row.task,
            "task_words": list(row.task_overrides),
            "protocol": row.protocol,
            **asdict(finding),
            **each.effort(),
            "parameters": cost.get("parameters"),
            "hidden_size": row.hidden_size,
            "state_size": cost.get("state_size"),
            "cause": cause,
            "because": reason,
            "intervention": self._propose_intervention(each, cause),
            "trials": [trial.record() for trial in each.decisive],
            "longer": [
                {"budget": trial.batch.budget, **trial.record()} for trial in each.trials if trial.batch.budget > 1
            ],
            "further": [trial.record() for trial in each.trials if trial.batch.further and not each.is_curriculum],
        }

    def _explain_limit(self, each: RowSearch) -> tuple[Cause, str]:
        """Return the likely cause of a row's limit, from its own runs and from other rows with a curriculum."""
        if each.pending is not None:
            return "unknown", "the search is not finished"
        finding, curricula = each.finding, [other for other in self.searches if other.is_curriculum]
        optimisation = drift = None
        if not each.is_curriculum:
            for other in curricula:
                if other.row.name == each.row.name:
                    optimisation = explain_optimisation(finding, other.finding)
        elif each.row.has_real_targets:
            others = [other for other in curricula if other.row.label == each.row.label]
            recall = {other.row.task: other.finding for other in others if not other.row.has_real_targets}
            drift = explain_drift(finding, recall)
        return explain_limit(
            each.diagnostics(self.folder),
            reached_the_end=finding.horizon == self.settings.rules.grid.distances[-1],
            budget_limited=finding.budget_limited,
            optimisation=optimisation,
            drift=drift,
        )

    def _propose_intervention(self, each: RowSearch, cause: Cause) -> dict[str, str] | None:
        if cause == "optimisation":
            others = [other for other in self.searches if other.row.name == each.row.name and other.is_curriculum]
            trials = [trial for other in others for trial in other.at_horizon]
            return {"text": "training lengths that grow", "command": trials[0].record()["command"]}
        return propose_intervention(each.row, cause, each.finding, self.settings, self.arguments)


def _format_horizon(horizon: int | None) -> str:
    return f"{horizon:,}" if horizon else "none"


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
    """Print the table of ``horizon.json``, and the cause and intervention of each row if they are few."""
    runs, grid, rows = record["runs"], record["grid_runs"], record["rows"]
    compared = any(row["protocol"] == "curriculum" for row in rows)
    share = f", {runs / grid:.0%} of the {grid:,} of the full grid" if grid and not compared else ""
    table = Table(title=f"horizon: {runs:,} runs{share}", title_justify="left")
    names = ["task", "row", "lengths", "horizon", "interval", "still solves", "steps", "s"]
    if not compared:
        names = ["task", "row", "horizon", "interval", "learning rate", "parameters", "cause"]
    for name in names:
        is_text = name in ("task", "row", "lengths", "learning rate", "cause")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=name == "lengths")
    for row in rows:
        fields = {
            "task": escape(row["task"]),
            "row": escape(row["label"]),
            "lengths": row["protocol"],
            "horizon": f"{_format_horizon(row['horizon'])}{'' if row['finished'] else ' so far'}",
            "interval": interval(row),
            "still solves": f"{row['generalises']:,}" if row["generalises"] else "",
            "steps": f"{row['steps']:,.0f}" if row["steps"] else "",
            "s": f"{row['seconds']:,.0f}" if row["seconds"] else "",
            "learning rate": f"{row['learning_rate']:g}" if row["learning_rate"] else "",
            "parameters": f"{row['parameters']:,}" if row["parameters"] else "",
            "cause": f"{row['cause']}{', budget-limited' if row['budget_limited'] else ''}",
        }
        table.add_row(*(fields[name] for name in names))
    console.print(table)
    verdicts = {trial.get("verdict") for row in record["rows"] for trial in row["trials"]}
    if verdicts - {None} == {"at chance"}:
        console.print("no row learned: none is better than the input-independent baseline", soft_wrap=True)
    _show_causes(rows, compared, console)


def _show_causes(rows: Sequence[Mapping[str, Any]], compared: bool, console: Console) -> None:
    if len(rows) > _CAUSES:
        console.print(f"causes of {len(rows)} limits: in {FILE} and in the report", soft_wrap=True)
        return
    for row in rows:
        line = f"{row['task']}, {row['label']}: {row['because']}"
        if compared:
            line = f"{row['task']}, {row['label']}, {row['protocol']}: {row['cause']}: {row['because']}"
        if row["intervention"]:
            line += f"; try {row['intervention']['text']}:\n  {row['intervention']['command']}"
        console.print(escape(line), soft_wrap=True)
