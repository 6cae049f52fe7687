"""Screen of ``tune``: a live table of the trials, and the table at the end."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from seqlab.cli.output import Output
from seqlab.io.formatting import format_metric, relative_path

if TYPE_CHECKING:
    from seqlab.study.tune.outcome import Outcome
    from seqlab.study.tune.search import Search
    from seqlab.study.tune.study import Trial

_BEST = 8
"""Complete trials in the live table."""
_SETTINGS = 100
"""Characters of a trial's settings."""


@final
class Live:
    """Live table of a search on stderr; without a terminal, a line for each trial that ends."""

    def __init__(self) -> None:
        self._console = Output(stderr=True)
        self._live = RichLive(console=self._console, auto_refresh=False, transient=True)
        self._told: set[int] = set()

    def __enter__(self) -> "Live":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def begin(self, search: "Search") -> None:
        """Say what is searched, and what was done before."""
        trials = search.study.trials
        self._told = {trial.number for trial in trials if trial.state != "running"}
        folder = relative_path(search.settings.folder)
        line = f"searching by validation {search.metric}; folder {folder}"
        if trials:
            line += f"; {len(trials)} trials and {search.seconds / 60:.1f} minutes so far"
        for each in (line, *search.space.notes):
            self._console.print_line(each, "dim")

    def update(self, search: "Search") -> None:
        """Show the trials."""
        if not self._console.is_terminal:
            self._tell(search)
            return
        self._live.update(_table(search), refresh=True)

    def scoring(self) -> None:
        """Say that the test split is scored."""
        self._live.stop()
        self._console.print_line("scoring the test split", "dim")

    def _tell(self, search: "Search") -> None:
        trials = search.study.trials
        for trial in trials:
            if trial.number not in self._told and trial.state != "running":
                self._told.add(trial.number)
                value = "" if trial.value is None else f" {search.metric} {format_metric(trial.value)}"
                line = f"trial {trial.number}  {trial.state}{value}  {trial.seconds:.0f} s  {_settings(trial, trials)}"
                print(line + (f"; {trial.cause}" if trial.cause else ""), file=sys.stderr, flush=True)


def _settings(trial: "Trial", trials: Sequence["Trial"]) -> str:
    from seqlab.study.tune.outcome import settings_of

    text = settings_of(trial, trials)
    return text if len(text) <= _SETTINGS else f"{text[: _SETTINGS - 3]}..."


def _table(search: "Search") -> Table:
    trials = search.study.trials
    done = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    done.sort(key=lambda trial: -(trial.value or 0) if search.maximises else (trial.value or 0))
    counts = {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")}
    minutes, seconds = divmod(int(search.seconds), 60)
    title = f"{minutes:02d}:{seconds:02d}"
    if search.settings.minutes is not None:
        title += f" of {search.settings.minutes:g} minutes"
    title += "; trials: " + ", ".join(f"{count} {state}" for state, count in counts.items())
    table = Table(title=title, title_justify="left")
    for name, justify in (("trial", "right"), ("", "right"), (search.metric, "right"), ("settings", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "settings")  # type: ignore[arg-type]  # of two texts
    for place, trial in enumerate(done[:_BEST]):
        _add(table, trial, "", trial.value, trials, "bold" if place == 0 else "")
    for trial in trials:
        if trial.state == "running":
            epoch = search.progress.get(trial.number)
            _add(table, trial, f"{epoch.percent if epoch else 0} %", epoch and epoch.value, trials, "dim")
    return table


def _add(table: Table, trial: "Trial", state: str, value: Any, trials: Sequence["Trial"], style: str) -> None:
    number = "" if value is None else format_metric(value)
    table.add_row(str(trial.number), state, number, Text(_settings(trial, trials)), style=style)


def show(outcome: "Outcome") -> None:
    """Print the table of the winner and the models beside it, what to keep, and last the verdict."""
    from seqlab.study.tune.outcome import test_scores

    out, metric = Output(), outcome.metric
    tests = [test_scores(row) for row in outcome.rows]
    others = [name for name in ("accuracy",) if name != metric and name in tests[0]["test"]]
    columns = ("", f"valid\n{metric}", *(f"test\n{name}" for name in (metric, *others)), "95 %\ninterval", "trial")
    rows = []
    for row, found in zip(outcome.rows, tests, strict=True):
        ends = found["intervals"].get(metric)
        value = row.trial.value
        scores = [format_metric(found["test"][name]) for name in (metric, *others)]
        interval = "-".join(f"{end:.3f}" for end in ends or ())
        rows.append(
            [row.label, "" if value is None else format_metric(value), *scores, interval, f"{row.trial.number}"]
        )
    counts = ", ".join(f"{count} {state}" for state, count in outcome.counts.items())
    out.print_table(columns, rows, right=columns[1:], title=f"{outcome.minutes:.1f} minutes; trials: {counts}")
    out.print_line(f"the interval is of test {metric}; the winner's validation score is the best of many", "dim")
    for title, shares in outcome.importances.items():
        listed = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:6])
        out.print_line(f"importance ({title}): {listed}")
    for note in outcome.notes:
        out.print_line(note, "dim")
    winner = outcome.rows[0]
    out.print_line(f"winner   {' '.join(winner.trial.words)}")
    out.print_line(f"run      {relative_path(winner.folder)}")
    out.print_line(f"keep     {outcome.keep}")
    out.print_line(f"report   {relative_path(outcome.page)}")
    out.print_line(outcome.verdict)
