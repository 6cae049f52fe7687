"""Sections of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any, final

from seqlab.io.formatting import relative_path
from seqlab.runs.scores import class_column, class_table, classes_to_show, shorten_label
from seqlab.study.intervals import Range, student
from seqlab.study.report import flow, horizons
from seqlab.study.report.document import (
    Code,
    Commands,
    Field,
    FigureBlock,
    Section,
    Table,
    Text,
    bytes_text,
    figure_text,
    with_spread,
)
from seqlab.study.report.figures import Point, against_distance, by_label, by_setting, cost, learning, mean_validation
from seqlab.study.report.reading import Collected, Fault
from seqlab.study.report.runs import Run, number, versions

_MOST = 3
"""Settings that a headline names where none is to be chosen."""


def headline(title: str, points: Sequence[Point], searched: Sequence[Mapping[str, Any]]) -> str:
    """Answer the question of a section in a sentence; validation ranks, and test scores are only shown.

    Args:
        title: of the section.
        points: its runs, put together.
        searched: rows of the horizon searches among them.
    """
    if points[0].distance is None:
        return f"On {title}, {_scores(points)}"
    rows = searched or horizons.measured(points)
    ranked = sorted(rows, key=lambda row: (-(row["horizon"] or 0), -(row["upper"] or row["largest"] + 1)))
    said = [f"{row['label']} reaches {_far(row)}" for row in ranked]
    each = " each" if len(points) > 1 else ""
    few = f" One seed{each}: run more seeds." if {len(point.runs) for point in points} == {1} else ""
    return f"On {title}, {'; '.join(said)}.{few}"


def _far(row: Mapping[str, Any]) -> str:
    interval = horizons.interval(row).replace(" (", ", ").removesuffix(")")
    if not row["horizon"]:
        return f"no distance that was tried (interval {interval})"
    steps = f"{row['horizon']:,} step{'s' if row['horizon'] > 1 else ''}"
    limited = ", budget-limited" if row.get("budget_limited") else ""
    return f"{steps} (interval {interval}{limited})"


def _scores(points: Sequence[Point]) -> str:
    """Say which setting validates best, unless there is one alone, or no other learned anything."""
    run = points[0].runs[0]
    monitor, baseline = run.monitor, "the input-independent baseline"
    scores = f"{baseline} scores {figure_text(run.chance)}" if run.chance is not None else "no baseline is known"
    baseline += "" if run.chance is None else f" ({figure_text(run.chance)})"
    ranked = sorted(points, key=lambda point: -point.worth)
    learned = [point for point in ranked if point.learned]
    best, *others = ranked
    if not learned:
        what = f"{best.label} is no better than" if not others else "no setting is better than"
        noise = " by more than the noise of the validation split" if _is_above(best) else ""
        return f"{what} {baseline}{noise}; test {monitor}: {_listed(ranked)}."
    if not others:
        return f"{best.label} has a test {monitor} of {_test(best)}; {scores}."
    if len(learned) == 1:
        return f"only {learned[0].label} is better than {baseline}; test {monitor}: {_listed([*learned, *others])}."
    single = all(len(point.runs) == 1 for point in ranked)
    what = "the highest" if run.maximises else "the lowest"
    text = (
        f"{best.label} has {what if single else 'the best'} validation {monitor}; its test {monitor} is {_test(best)}"
    )
    text += f"; next is {others[0].label} with {_test(others[0])}"
    if single:
        text += "; one run each: run more seeds"
    elif _is_close(best, others[0]):
        text += ", closer in validation than one standard deviation over the seeds"
    if idle := [point.label for point in ranked if not point.learned]:
        return f"{text}; no better than {baseline}: {', '.join(idle)}."
    return f"{text}; {scores}."


def _is_above(point: Point) -> bool:
    """Return whether the mean validation score is better than the baseline, if only by chance."""
    run = point.runs[0]
    return run.chance is not None and point.worth > (run.chance if run.maximises else -run.chance)


def _listed(points: Sequence[Point]) -> str:
    shown = list({point.label: f"{point.label} {_test(point)}" for point in points}.values())
    more = f"; {len(shown) - _MOST:,} more" if len(shown) > _MOST else ""
    return "; ".join(shown[:_MOST]) + more


def _test(point: Point) -> str:
    return f"{with_spread(point.mean, point.spread)} ({len(point.scores)} seed{'s' if len(point.scores) > 1 else ''})"


def _is_close(best: Point, other: Point) -> bool:
    found = [[value for run in point.runs if (value := run.valid) is not None] for point in (best, other)]
    spread = max(stdev(values) if len(values) > 1 else 0.0 for values in found)
    return abs(best.worth - other.worth) <= spread


_RATIOS = ("precision", "recall", "f1")


def class_section(points: Sequence[Point], monitor: str) -> Section | None:
    """Make the table of precision, recall, F1 and support; ``None`` where no record has one."""
    runs = {run: (point, rows) for point in points for run in point.runs if (rows := _rows(run))}
    if not runs:
        return None
    best = max(runs, key=lambda run: mean_validation([run]))
    point, rows = runs[best]
    shown = classes_to_show(rows)
    noun = class_column(rows[0])
    said = "Test split."
    if sum(len(point.runs) for point in points) > 1:
        at = "" if point.distance is None else f" at distance {point.distance:,}"
        said = f"Test split, of the run with the best validation {monitor}: {point.label}{at}, {best.folder.name}."
    if len(shown) < len(rows):
        said += f" {len(shown)} of {len(rows)} classes, those of least F1; all are in its results.json."
    made: list[tuple[Field, ...]] = []
    for row in shown:
        ratios = (number(row[name]) for name in _RATIOS)
        figures = ("-" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
        made.append((shorten_label(str(row.get(noun, ""))), *figures, f"{number(row['examples']) or 0:,.0f}"))
    return Section("Classes", 3, [Text(said), Table((noun, "precision", "recall", "F1", "support"), tuple(made))])


def _rows(run: Run) -> Sequence[Mapping[str, Any]]:
    """Return the table of classes in a record; empty where there is none, or its F1 are no numbers."""
    tables = {
        str(name): rows
        for name, rows in (run.record.get("tables") or {}).items()
        if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
    }
    found = class_table(tables)
    if found is None or any(row["f1"] is not None and number(row["f1"]) is None for row in found[1]):
        return ()
    return found[1]


Rows = Sequence[Mapping[str, Any]]


@final
@dataclass(frozen=True)
class Part:
    """Runs that may stand in one table: of one task, with the same guarded settings.

    Attributes:
        name: of its files.
        title: its heading.
        labels: each run's.
        points: the runs put together.
        horizons: rows of the searches that belong here.
        curves: of each run, by the name of the file.
    """

    name: str
    title: str
    labels: Mapping[Run, str]
    points: Sequence[Point]
    horizons: Sequence[Mapping[str, Any]]
    curves: Mapping[str, Mapping[Run, Rows]]

    @property
    def has_distances(self) -> bool:
        """Whether its task's difficulty is a distance."""
        return bool(self.points) and self.points[0].distance is not None

    @property
    def monitor(self) -> str:
        """The metric that its runs were chosen by."""
        return self.points[0].runs[0].monitor


def header(found: Collected, folders: Sequence[Path]) -> list[Section]:
    """Say first what is missing, then what the report was made of."""
    made = []
    faults = [fault for fault in found.faults if fault.kind != "left out"]
    ordered = sorted(faults, key=lambda fault: _ORDER.index(fault.kind) if fault.kind in _ORDER else len(_ORDER))
    if ordered:
        counts: dict[str, int] = {}
        for fault in ordered:
            counts[fault.kind] = counts.get(fault.kind, 0) + 1
        counted = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        more = f" The first {_MOST_FAULTS} are listed; all are in results.csv." if len(ordered) > _MOST_FAULTS else ""
        made.append(Section("What is not in it", 2, [Text(f"{counted}.{more}"), _fault_table(ordered[:_MOST_FAULTS])]))
    facts: list[tuple[Field, ...]] = [("folders", ", ".join(relative_path(folder) for folder in folders))]
    facts.append(("runs", f"{len(found.runs):,} of {found.asked:,} are in this report"))
    if checks := len(found.faults) - len(faults):
        why = f"{checks:,} that checked a budget, or came in since the search last decided; results.csv has them"
        facts.append(("in no figure", why))
    known = versions(found.runs)
    facts += [(name, "; ".join(known.pop(name, ["not recorded"]))) for name in ("commit", "hardware", "platform")]
    facts.append(("versions", ", ".join(f"{name} {' and '.join(values)}" for name, values in known.items())))
    section = Section("What it was made of", 2, [Table(("", ""), tuple(facts))])
    if found.commands:
        section.blocks.append(Code("Sweeps, as typed", tuple(found.commands)))
    return [*made, section]


_MOST_FAULTS = 40
_ORDER = ("failed", "damaged", "missing", "stopped", "running", "queued", "counted once")


def _fault_table(faults: Sequence[Fault]) -> Table:
    rows = tuple(
        (fault.kind, fault.place, fault.what, Commands((fault.command,)) if fault.command else "") for fault in faults
    )
    return Table(("", "where", "cause", "to do it again"), rows)


def task_sections(part: Part) -> list[Section]:
    """Make the sections of one task: the answer, scores, horizons, gradients, cost, learning curves."""
    top = Section(part.title)
    if not part.points:
        top.blocks.append(Text("No run of it has a score."))
        return [top]
    top.blocks.append(Text(headline(part.title, part.points, part.horizons), is_answer=True))
    draw = against_distance if len({point.distance for point in part.points}) > 1 else by_setting
    top.blocks += [FigureBlock(draw(f"{part.name}_scores", part.points, part.monitor)), _score_table(part)]
    top.blocks.append(Text(_explain(part)))
    made = [top]
    if part.horizons:
        made.append(horizons.horizon_section(part.name, part.horizons, is_search=True))
    elif part.has_distances:
        made.append(horizons.horizon_section(part.name, horizons.measured(part.points), is_search=False))
    makers = (_class_section, _flow_section, _further_section, _cost_section, _learning_section)
    return made + [section for make in makers if (section := make(part)) is not None]


def _score_table(part: Part) -> Table:
    distances = ("distance",) if part.has_distances else ()
    rates = ("learning rate",) if part.has_distances else ()
    judged = any(run.bounds.get("solved") is not None for point in part.points for run in point.runs)
    head = (
        "",
        *distances,
        f"test {part.monitor}",
        "95 % interval",
        "seeds",
        *(("solved (validation)",) if judged else ()),
        *rates,
    )
    head = (*head, "chance", "best possible", "commands") if part.has_distances else (*head, "chance", "commands")
    rows: list[tuple[Field, ...]] = []
    for point in part.points:
        row: list[Field] = [point.label, *([figure_text(point.distance)] if part.has_distances else [])]
        row += [with_spread(point.mean, point.spread), _interval(point), str(len(point.runs))]
        row += [str(point.solved)] if judged else []
        run = point.runs[0]
        row += [figure_text(run.rate)] if part.has_distances else []
        row.append(figure_text(run.chance))
        row += [figure_text(run.bounds.get("optimal")) or "not known"] if part.has_distances else []
        row.append(Commands(tuple(each.command for each in point.runs)))
        rows.append(tuple(row))
    return Table(head, tuple(rows))


def _interval(point: Point) -> str:
    """Write Student's interval for the mean, cut at the metric's range and at the best score there can be."""
    run = point.runs[0]
    found, best = run.range().cut(student(point.scores)), number(run.bounds.get("optimal"))
    if best is not None:
        found = (Range(high=best) if run.maximises else Range(low=best)).cut(found)
    if found.low is None or found.high is None:
        return ""
    return f"{figure_text(found.low, 3)} to {figure_text(found.high, 3)}"


def _explain(part: Part) -> str:
    rates = sorted({rate for point in part.points for rate in point.rates})
    text = (
        "Test scores: mean ± standard deviation over the seeds, and Student's interval for the mean, cut at the"
        " metric's range and the best possible score. Whatever ranks or chooses goes by validation scores"
        f"{', and so does whether a run solves the task' if part.has_distances else ''}."
    )
    if len(rates) > 1:
        text += (
            f" Of the learning rates {', '.join(figure_text(rate) for rate in rates)} each row has the one with"
            " the best mean validation score among those with the most seeds; the test score chose none."
        )
    unknown = {
        str(run.bounds.get("reason")) for point in part.points for run in point.runs
        if run.bounds and run.bounds.get("optimal") is None and run.bounds.get("reason")
    }  # fmt: skip
    return text + "".join(f" The best possible score is not known: {reason}." for reason in sorted(unknown))


def _class_section(part: Part) -> Section | None:
    return class_section(part.points, part.monitor)


def _flow_section(part: Part) -> Section | None:
    flows = flow.choose_flows(part.points, part.curves[flow.FLOW])
    if not flows:
        return None
    section = Section("Gradient flow", 3, [FigureBlock(picture) for picture in flow.flow_figures(part.name, flows)])
    if rows := flow.saturation_rows(flows, part.curves[flow.SATURATION]):
        section.blocks.append(
            Text("Gate activations in the lowest and the highest tenth of their range, late in training:")
        )
        head = ("", "layer", "direction", "gate", "low", "high")
        section.blocks.append(Table(head, tuple(tuple(str(value) for value in row) for row in rows)))
    if gateless := [each.label for each in flows if not part.curves[flow.SATURATION].get(each.run)]:
        section.blocks.append(
            Text(f"No gate activations were recorded (the cell names no gates): {', '.join(gateless)}.")
        )
    return section


def _further_section(part: Part) -> Section | None:
    rows: list[tuple[Field, ...]] = []
    for point in part.points:
        tests: dict[str, list[float]] = {}
        for run in point.runs:
            for row in (run.record.get("tables") or {}).get("further_tests") or ():
                if isinstance(row, Mapping) and isinstance(value := row.get(part.monitor), float):
                    tests.setdefault(str(row.get("split")), []).append(value)
        trained = [figure_text(point.distance)] if part.has_distances else []
        for split, values in tests.items():
            mean = with_spread(sum(values) / len(values), _deviation(values))
            rows.append((point.label, *trained, split, mean, str(len(values))))
    if not rows:
        return None
    head = ("", *(["trained at"] if part.has_distances else []), "tested on", f"test {part.monitor}", "seeds")
    return Section("Tested further", 3, [Table(tuple(head), tuple(rows))])


def _deviation(values: Sequence[float]) -> float | None:
    from statistics import stdev

    return stdev(values) if len(values) > 1 else None


def _cost_section(part: Part) -> Section:
    head = ("", "parameters", "state size", "steps/s", "training (s)", "memory (MB)", "GPU memory (MB)", "runs")
    rows: list[tuple[Field, ...]] = []
    for label, points in by_label(part.points).items():
        runs = [run for point in points for run in point.runs]
        together = Point(label, None, tuple(runs))
        counts = [_range(runs, name) for name in ("parameters", "state_size")]
        figures = [figure_text(together.cost(name), 3) for name in ("tokens_per_second", "training_seconds")]
        memory = [bytes_text(together.cost(name)) for name in ("peak_memory_bytes", "peak_gpu_memory_bytes")]
        rows.append((label, *counts, *figures, *memory, str(len(runs))))
    keep = [at for at in range(len(head)) if any(row[at] for row in rows)]
    table = Table(tuple(head[at] for at in keep), tuple(tuple(row[at] for at in keep) for row in rows))
    text = (
        "Medians over the runs of a row. Memory is the process's largest so far: where one process does several runs"
        " one after another, a later one shows at least what an earlier one took."
    )
    section = Section("Cost", 3, [table, Text(text)])
    if (picture := cost(f"{part.name}_cost", part.points)) is not None:
        section.blocks.insert(0, FigureBlock(picture))
    return section


def _range(runs: Sequence[Run], name: str) -> str:
    values = sorted({value for run in runs if (value := run.cost(name)) is not None})
    if not values:
        return ""
    low, high = figure_text(values[0]), figure_text(values[-1])
    return low if low == high else f"{low} to {high}"


def _learning_section(part: Part) -> Section | None:
    picture = learning(f"{part.name}_learning", part.points, part.curves["metrics.csv"])
    return None if picture is None else Section("Learning curves", 3, [FigureBlock(picture)])
