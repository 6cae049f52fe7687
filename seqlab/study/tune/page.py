"""Report page of a search: scores, importance of the settings, all trials."""

from collections.abc import Sequence

from seqlab.io.atomic import write_text
from seqlab.io.formatting import format_metric, shell_command
from seqlab.io.safe_io import escape_control
from seqlab.plugins.hydra_source import sources
from seqlab.study.plotting import INK, WIDTH, label_axes, legend, new_figure
from seqlab.study.report.document import (
    Code,
    Document,
    FigureBlock,
    Section,
    Table,
    Text,
    html,
    inline_svg,
    markdown,
    render_svg,
)
from seqlab.study.report.figures import Picture
from seqlab.study.report.writer import check_replaceable
from seqlab.study.tune.outcome import Outcome, settings_of, test_scores
from seqlab.study.tune.study import Trial

_LEAST = 0.005
"""Importance below which a setting is not listed."""


def write_page(outcome: Outcome, trials: Sequence[Trial], command: str) -> None:
    """Write ``report.html`` and ``report.md`` with its figures.

    Raises:
        UserError: the folder has files of these names that no report wrote.
    """
    folder = outcome.page.parent
    check_replaceable(folder)
    document = compose(outcome, trials, command)
    figures = {}
    for picture in document.pictures:
        svg = render_svg(picture)
        write_text(folder / "figures" / f"{picture.name}.svg", svg)
        figures[picture.name] = inline_svg(picture, svg)
    write_text(outcome.page, escape_control(html(document, figures)))
    write_text(outcome.page.with_suffix(".md"), escape_control(markdown(document)))


def compose(outcome: Outcome, trials: Sequence[Trial], command: str) -> Document:
    """Compose the page."""
    sections = [_scores(outcome), _config(outcome, command), _importance(outcome), _course(outcome, trials)]
    sections.append(_trials(outcome, trials))
    return Document(f"Search: {outcome.rows[0].record['title']}", [each for each in sections if each is not None])


def _scores(outcome: Outcome) -> Section:
    tests = [test_scores(row) for row in outcome.rows]
    names = list(tests[0]["test"])
    head = ("", "trial", f"validation {outcome.metric}", *(f"test {name}" for name in names))
    rows = []
    for row, found in zip(outcome.rows, tests, strict=True):
        value = row.trial.value
        fields = [row.label, str(row.trial.number), "" if value is None else format_metric(value)]
        for name in names:
            ends = found["intervals"].get(name)
            interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
            fields.append(f"{format_metric(found['test'][name])}{interval}" if name in found["test"] else "")
        rows.append(tuple(fields))
    about = (
        f"Chosen by validation {outcome.metric}; the test split was scored once, after the search. In brackets: 95 %"
        " intervals of the test split alone. The validation value of the winner is the best of many, so that it is"
        " better than on new data."
    )
    return Section("Results", blocks=[Text(outcome.verdict, is_result=True), Table(head, tuple(rows)), Text(about)])


def _config(outcome: Outcome, command: str) -> Section:
    winner = outcome.rows[0]
    return Section(
        "Setup",
        blocks=[
            Code("Search", (command,)),
            Code("Train with the winner's config file", (outcome.keep,)),
            Code("Train with the winner's overrides", (shell_command(*sources().arguments, *winner.trial.words),)),
            *map(Text, outcome.notes),
        ],
    )


def _importance(outcome: Outcome) -> Section | None:
    if not outcome.importances:
        return None
    names = dict.fromkeys(name for found in outcome.importances.values() for name in found)
    rows = [
        (name, *("" if name not in found else f"{found[name]:.1%}" for found in outcome.importances.values()))
        for name in names
        if max(found.get(name, 0.0) for found in outcome.importances.values()) >= _LEAST
    ]
    about = (
        f"Share of each setting in what separates good trials from the rest (PED-ANOVA, Watanabe et al. 2023), over"
        f" {outcome.counts.get('complete', 0)} complete trials; settings that only some trials have are compared in"
        " those alone."
    )
    return Section(
        "Importance of the settings", blocks=[Table(("setting", *outcome.importances), tuple(rows)), Text(about)]
    )


def _course(outcome: Outcome, trials: Sequence[Trial]) -> Section | None:
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    if len(complete) < 2:
        return None
    figure = new_figure(WIDTH, 3.2)
    axes = figure.add_subplot()
    pruned = [trial for trial in trials if trial.state == "pruned" and trial.value is not None]
    axes.scatter(
        [trial.number for trial in pruned], [trial.value or 0 for trial in pruned], 14, facecolors="none",
        edgecolors=INK, alpha=0.6, label="stopped early (last validation)",
    )  # fmt: skip
    axes.scatter([trial.number for trial in complete], [trial.value or 0 for trial in complete], 14, color=INK,
                 label="complete")  # fmt: skip
    label_axes(axes, "trial", f"validation {outcome.metric}")
    legend(figure, axes)
    return Section("Course", blocks=[FigureBlock(Picture("course", "Validation score of each trial.", figure))])


def _trials(outcome: Outcome, trials: Sequence[Trial]) -> Section:
    rows = []
    for trial in trials:
        value = "" if trial.value is None else format_metric(trial.value)
        settings = settings_of(trial, trials) + (f"; {trial.cause}" if trial.cause else "")
        rows.append((str(trial.number), trial.state, value, f"{trial.seconds:.1f}", settings))
    return Section("Trials", blocks=[Table(("trial", "state", outcome.metric, "seconds", "settings"), tuple(rows))])
