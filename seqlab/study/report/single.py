"""Sections of a report on one run: losses, scores, confusion, calibration, confident errors, data, settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqlab.errors import UserError
from seqlab.runs.scores import linear_verdict
from seqlab.study.plotting import INK, WIDTH, drawable, label_axes, legend, new_figure, points
from seqlab.study.predictions import Predictions, read_predictions
from seqlab.study.report.document import Block, Code, Field, FigureBlock, Section, Table, Text, format_number
from seqlab.study.report.figures import Picture
from seqlab.study.report.runs import Run, finite_number, format_setting

_MAX_CLASSES = 30
"""Classes of a confusion matrix; of more, those with the most errors."""
_BINS = 15
_LOSSES = (("train/loss", "training", "-"), ("valid/loss", "validation", "--"))


def run_sections(run: Run, curve: Sequence[Mapping[str, float]]) -> list[Section]:
    """Build the sections of one run, after those of any group.

    Args:
        run: to report on.
        curve: rows of its ``curves/metrics.csv``.
    """
    try:
        found = read_predictions(run.folder, "test")
    except UserError as error:
        found, fault = None, [Text(str(error))]
    else:
        fault = []
    sections = [_loss_section(run, curve), _score_section(run)]
    if found is not None and (labels := _labels(run, found)):
        sections += [_confusion_section(run, found, labels), _calibration_section(run, found)]
    sections += [_error_section(run), _data_section(run), _settings_section(run)]
    if fault:
        sections.append(Section("Predictions", 3, [*fault]))
    return [section for section in sections if section is not None]


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object of a record; empty where there is none."""
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _labels(run: Run, found: Predictions) -> list[str]:
    """Return the labels by index; empty if the record lacks some."""
    labels = _mapping(run.record, "fingerprint").get("labels")
    most = int(max(found.target.max(initial=0), found.predicted.max(initial=0)))
    return [str(label) for label in labels] if isinstance(labels, list) and len(labels) > most else []


def _loss_section(run: Run, curve: Sequence[Mapping[str, float]]) -> Section | None:
    drawn = {name: [row for row in curve if name in row] for name, _, _ in _LOSSES}
    if not any(drawn.values()):
        return None
    figure = new_figure(WIDTH, 3.2)
    axes = figure.add_subplot()
    for name, label, line in _LOSSES:
        steps = [row["step"] + 1 for row in drawn[name]]
        mark = "o" if len(steps) < 30 else ""
        values = [row[name] for row in drawn[name]]
        axes.plot(steps, values, line, marker=mark, markersize=3, color=INK, linewidth=1.3, label=label)
    label_axes(axes, "training (batches)", "loss (mean per example)")
    legend(figure, axes)
    caption = "Loss during training: of the epoch on the training split, at its end on the validation split."
    return Section("Losses", 3, [FigureBlock(Picture(f"{run.task}_loss", caption, figure))])


def _score_section(run: Run) -> Section:
    """Build the table of all test metrics beside the baselines, and the sentences on what fails."""
    record = run.record
    chance, linear, intervals = (_mapping(_mapping(record, key), "test") for key in ("chance", "linear", "intervals"))
    rows: list[tuple[Field, ...]] = []
    for name in record["metrics"]["test"]:
        ends = intervals.get(name)
        known = [finite_number(end) for end in ends] if isinstance(ends, list) else []
        interval = " to ".join(format_number(end, 3) for end in known) if len(known) == 2 else ""
        values = [finite_number(each.get(name)) for each in (chance, linear, record["metrics"]["test"])]
        rows.append((str(name), *map(format_number, values), interval))
    head = ("", "baseline", "linear baseline", "this run", "95 % interval")
    keep = [at for at in range(len(head)) if at == 0 or any(row[at] for row in rows)]
    table = Table(tuple(head[at] for at in keep), tuple(tuple(row[at] for at in keep) for row in rows))
    blocks: list[Block] = [table]
    if (line := linear_verdict(record)) is not None:
        blocks.append(Text(f"{line[0].upper()}{line[1:]}."))
    return Section("Test scores", 3, blocks)


def _confusion_section(run: Run, found: Predictions, labels: Sequence[str]) -> Section:
    counts = found.confusion(len(labels))
    errors = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    chosen = np.sort(np.argsort(-errors, kind="stable")[:_MAX_CLASSES])
    shown, names = counts[np.ix_(chosen, chosen)], [drawable(labels[at])[:24] for at in chosen]
    shares = shown / np.maximum(counts.sum(1)[chosen, None], 1)
    side = min(WIDTH, 1.9 + 0.42 * len(chosen))
    figure = new_figure(max(side, 4.0), max(side - 0.4, 3.2))
    axes = figure.add_subplot()
    edges = np.arange(len(chosen) + 1) - 0.5
    axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1)
    axes.invert_yaxis()  # not imshow: a page loads no image
    for row, column in np.argwhere(shown):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, str(shown[row, column]), ha="center", va="center", color=colour, fontsize=points(7))
    ticks = range(len(chosen))
    axes.set_xticks(ticks, names, rotation=90, parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    label_axes(axes, "predicted", "true")
    axes.grid(visible=False)
    caption = "Confusion matrix of the test split: numbers are examples, colours shares of a row."
    if len(chosen) < len(labels):
        caption += f" {len(chosen)} of {len(labels)} classes, those with the most errors."
    return Section("Confusion", 3, [FigureBlock(Picture(f"{run.task}_confusion", caption, figure))])


def _calibration_section(run: Run, found: Predictions) -> Section:
    place = np.minimum((found.confidence * _BINS).astype(int), _BINS - 1)
    sizes = np.bincount(place, minlength=_BINS)
    kept = sizes > 0
    confidence = np.bincount(place, found.confidence, _BINS)[kept] / sizes[kept]
    accuracy = np.bincount(place, found.hits, _BINS)[kept] / sizes[kept]
    figure = new_figure(WIDTH * 0.6, 3.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], "--", color=INK, alpha=0.5, linewidth=1)
    axes.plot(confidence, accuracy, color=INK, linewidth=1.2)
    axes.scatter(confidence, accuracy, 8 + 160 * sizes[kept] / sizes.sum(), color=INK, alpha=0.75)
    label_axes(axes, "confidence", "accuracy")
    axes.set_ylim(-0.03, 1.03)
    error = float((sizes[kept] / sizes.sum() * np.abs(accuracy - confidence)).sum())
    caption = (
        f"Reliability on the test split: accuracy of {_BINS} bins of confidence, areas are shares of the examples;"
        f" dashed: perfect calibration. Calibration error {error:.3f}."
    )
    return Section("Calibration", 3, [FigureBlock(Picture(f"{run.task}_reliability", caption, figure))])


def _error_section(run: Run) -> Section | None:
    rows: list[tuple[Field, ...]] = []
    listed = run.tables.get("confident_errors")
    for row in listed if isinstance(listed, list) else ():
        if isinstance(row, Mapping) and (confidence := finite_number(row.get("confidence"))) is not None:
            texts = (str(row.get(name, "")) for name in ("text", "true", "predicted"))
            rows.append((*texts, f"{confidence:.3f}"))
    if not rows:
        return None
    table = Table(("text", "true", "predicted", "confidence"), tuple(rows))
    return Section(
        "Confident errors", 3, [Text("Wrong predictions of the test split, the most confident first."), table]
    )


def _data_section(run: Run) -> Section | None:
    rows: list[tuple[Field, ...]] = []
    for split, facts in _mapping(run.record, "data").items():
        if isinstance(facts, Mapping):
            length = _mapping(facts, "length")
            numbers = [facts.get("examples"), facts.get("steps"), length.get("median"), length.get("longest")]
            shares = [finite_number(facts.get(name)) for name in ("share_truncated", "share_unknown")]
            percents = ["" if share is None else f"{share:.1%}" for share in shares]
            rows.append((str(split), *(format_number(finite_number(number)) for number in numbers), *percents))
    if not rows:
        return None
    head = ("split", "examples", "steps", "median length", "longest", "truncated", "unknown")
    listed = run.record.get("notes")
    notes = [Text(note) for note in (listed if isinstance(listed, list) else ()) if isinstance(note, str)]
    return Section("Data", 3, [Table(head, tuple(rows)), *notes])


def _settings_section(run: Run) -> Section:
    rows = tuple((key, format_setting(value)[:200]) for key, value in run.settings.items())
    blocks: list[Block] = [Table(("key", "value"), rows)]
    if run.command:
        blocks.insert(0, Code("Command", (run.command,)))
    return Section("Settings", 3, blocks)
