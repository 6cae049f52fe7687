"""Sections of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, final

from seqlab.io.formatting import relative_path
from seqlab.runs.scores import class_column, class_table, classes_to_show, rarest_class, shorten_label
from seqlab.study.intervals import Range, replicate_interval
from seqlab.study.report import horizons
from seqlab.study.report.document import (
    Code,
    Commands,
    Field,
    FigureBlock,
    Section,
    Table,
    Text,
    format_mean,
    format_number,
)
from seqlab.study.report.figures import (
    Point,
    by_label,
    costs,
    learning_curves,
    mean_validation,
    scores_by_distance,
    scores_by_setting,
)
from seqlab.study.report.flow import flow_section
from seqlab.study.report.reading import Collected, Curves, Fault
from seqlab.study.report.runs import Run, environments, finite_number
from seqlab.study.report.single import run_sections

_MAX_LISTED = 3
"""Settings in a result sentence that chooses none."""


@final
@dataclass(frozen=True)
class RunGroup:
    """Comparable runs of one task, aggregated over seeds, with the rows of the searches that made them."""

    name: str
    """Prefix of the figures' files."""
    title: str
    labels: Mapping[Run, str]
    points: Sequence[Point]
    horizons: Sequence[Mapping[str, Any]]
    curves: Curves

    @property
    def has_distances(self) -> bool:
        """Whether the task's difficulty is a distance."""
        return bool(self.points) and self.points[0].distance is not None

    @property
    def monitor(self) -> str:
        """Metric that chose the checkpoints."""
        return self.points[0].runs[0].monitor


def result_sentence(title: str, points: Sequence[Point], searched: Sequence[Mapping[str, Any]]) -> str:
    """Summarise a section in a sentence: validation ranks the settings, test scores are reported."""
    if points[0].distance is None:
        return f"On {title}, {_compare_scores(points)}"
    if not any(point.learned for point in points):
        return f"On {title}, no row learned: none is better than the input-independent baseline at any distance."
    rows = searched or horizons.measured(points)
    ranked = sorted(rows, key=lambda row: (-(row["horizon"] or 0), -(row["upper"] or row["largest"] + 1)))
    results = [f"{row['label']} reaches {_format_horizon(row)}" for row in ranked]
    return f"On {title}, {'; '.join(results)}."


def _format_horizon(row: Mapping[str, Any]) -> str:
    interval = horizons.interval(row).replace(" (", ", ").removesuffix(")")
    if not row["horizon"]:
        return f"no distance that was run (interval {interval})"
    steps = f"{row['horizon']:,} step{'s' if row['horizon'] > 1 else ''}"
    limited = ", budget-limited" if row.get("budget_limited") else ""
    return f"{steps} (interval {interval}{limited})"


def _compare_scores(points: Sequence[Point]) -> str:
    """Name the setting with the best validation score, unless it is the only one or no other learned."""
    run = points[0].runs[0]
    monitor, baseline = run.monitor, "the input-independent baseline"
    scores = f"{baseline} scores {format_number(run.baseline)}" if run.baseline is not None else "no baseline is known"
    baseline += "" if run.baseline is None else f" ({format_number(run.baseline)})"
    ranked = sorted(points, key=lambda point: -point.rank_score)
    learned = [point for point in ranked if point.learned]
    best, *others = ranked
    if not learned:
        what = f"{best.label} is no better than" if not others else "no setting is better than"
        noise = " by more than the noise of the validation split" if _is_above_baseline(best) else ""
        return f"{what} {baseline}{noise}; test {monitor}: {_list_scores(ranked)}."
    if not others:
        return f"{best.label} has a test {monitor} of {_test_score(best)}; {scores}."
    if len(learned) == 1:
        ordered = [*learned, *(point for point in ranked if point not in learned)]
        return f"only {learned[0].label} is better than {baseline}; test {monitor}: {_list_scores(ordered)}."
    single = all(len(point.runs) == 1 for point in ranked)
    rank = ("the highest" if run.maximises else "the lowest") if single else "the best"
    text = f"{best.label} has {rank} validation {monitor}; its test {monitor} is {_test_score(best)}"
    text += f"; next is {others[0].label} with {_test_score(others[0])}"
    if not single and _is_close(best, others[0]):
        text += ", closer in validation than one standard deviation over the seeds"
    if idle := [point.label for point in ranked if not point.learned]:
        return f"{text}; no better than {baseline}: {', '.join(idle)}."
    return f"{text}; {scores}."


def _is_above_baseline(point: Point) -> bool:
    """Return whether the mean validation score exceeds the baseline, if only by noise."""
    run = point.runs[0]
    return run.baseline is not None and point.rank_score > (run.baseline if run.maximises else -run.baseline)


def _list_scores(points: Sequence[Point]) -> str:
    texts = list({point.label: f"{point.label} {_test_score(point)}" for point in points}.values())
    more = f"; {len(texts) - _MAX_LISTED:,} more" if len(texts) > _MAX_LISTED else ""
    return "; ".join(texts[:_MAX_LISTED]) + more


def _test_score(point: Point) -> str:
    seeds = len(point.scores)
    return f"{format_mean(point.mean, point.deviation)} ({seeds} seed{'s' if seeds > 1 else ''})"


def _is_close(best: Point, other: Point) -> bool:
    scores = [[value for run in point.runs if (value := run.validation_score()) is not None] for point in (best, other)]
    deviation = max(stdev(values) if len(values) > 1 else 0.0 for values in scores)
    return abs(best.rank_score - other.rank_score) <= deviation


_RATIOS = ("precision", "recall", "f1")


def class_section(points: Sequence[Point], monitor: str) -> Section | None:
    """Build the table of precision, recall, F1 and support; ``None`` if no record has one."""
    runs = {run: (point, rows) for point in points for run in point.runs if (rows := _class_rows(run))}
    if not runs:
        return None
    best = max(runs, key=lambda run: mean_validation([run]))
    point, rows = runs[best]
    shown = classes_to_show(rows)
    noun = class_column(rows[0])
    text = "Test split."
    if len(runs) > 1:
        at = "" if point.distance is None else f" at distance {point.distance:,}"
        which = f"the run with the best validation {monitor}" if best.learned else "one run; none learned"
        text = f"Test split, of {which}: {point.label}{at}, {best.folder.name}."
    if len(shown) < len(rows):
        text += f" {len(shown)} of {len(rows)} classes, those with the lowest F1; results.json has all."
    elif (rarest := rarest_class(rows)) is not None and finite_number(rarest["recall"]) is not None:
        text += f" The rarest, {shorten_label(str(rarest[noun]))}, has a recall of {rarest['recall']:.3f}."
    fields: list[tuple[Field, ...]] = []
    for row in shown:
        ratios = (finite_number(row[name]) for name in _RATIOS)
        figures = ("-" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
        fields.append((shorten_label(str(row.get(noun, ""))), *figures, f"{finite_number(row['examples']) or 0:,.0f}"))
    return Section("Classes", 3, [Text(text), Table((noun, "precision", "recall", "F1", "support"), tuple(fields))])


def _class_rows(run: Run) -> Sequence[Mapping[str, Any]]:
    """Return the table of classes in a record; empty if there is none, or an F1 is no number."""
    tables = {
        str(name): rows
        for name, rows in run.tables.items()
        if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
    }
    found = class_table(tables)
    if found is None or any(row["f1"] is not None and finite_number(row["f1"]) is None for row in found[1]):
        return ()
    return found[1]


_MAX_FAULTS = 40
_FAULT_ORDER = ("failed", "damaged", "missing", "stopped", "running", "queued", "duplicate")


def header_sections(found: Collected, folders: Sequence[Path]) -> list[Section]:
    """Build the sections on missing runs and on the setup."""
    sections = []
    faults = [fault for fault in found.faults if fault.kind != "excluded"]
    order = {kind: place for place, kind in enumerate(_FAULT_ORDER)}
    faults.sort(key=lambda fault: order.get(fault.kind, len(order)))
    if faults:
        kinds = [fault.kind for fault in faults]
        counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in dict.fromkeys(kinds))
        more = f" The first {_MAX_FAULTS} are listed; results.csv has all." if len(faults) > _MAX_FAULTS else ""
        sections.append(Section("Missing runs", 2, [Text(f"{counts}.{more}"), _fault_table(faults[:_MAX_FAULTS])]))
    facts: list[tuple[Field, ...]] = [("folders", ", ".join(relative_path(folder) for folder in folders))]
    facts.append(("runs", f"{len(found.runs):,} of {found.total:,} are in this report"))
    if excluded := len(found.faults) - len(faults):
        reason = "budget checks, further tests, or finished after the last decision of a search; results.csv has them"
        facts.append(("excluded runs", f"{excluded:,}: {reason}"))
    known = environments(found.runs)
    facts += [(name, "; ".join(known.pop(name, ["not recorded"]))) for name in ("commit", "hardware", "platform")]
    facts.append(("versions", ", ".join(f"{name} {' and '.join(values)}" for name, values in known.items())))
    section = Section("Setup", 2, [Table(("", ""), tuple(facts))])
    if found.commands:
        section.blocks.append(Code("Commands of the sweeps", tuple(found.commands)))
    return [*sections, section]


def _fault_table(faults: Sequence[Fault]) -> Table:
    rows = tuple(
        (fault.kind, fault.place, fault.cause, Commands((fault.command,)) if fault.command else "") for fault in faults
    )
    return Table(("", "path", "cause", "command"), rows)


def group_sections(group: RunGroup) -> list[Section]:
    """Build the sections of one group: result, baseline, horizon, classes, gradients, cost, curves, limitations."""
    top = Section(f"Results: {group.title}")
    if not group.points and all(run.is_curriculum_trial for run in group.labels):
        return []
    if not group.points:
        top.blocks.append(Text("No run has a score."))
        return [top]
    top.blocks.append(Text(result_sentence(group.title, group.points, group.horizons), is_result=True))
    several = len({point.distance for point in group.points}) > 1
    draw = scores_by_distance if several else scores_by_setting
    top.blocks += [FigureBlock(draw(f"{group.name}_scores", group.points, group.monitor)), _score_table(group)]
    top.blocks.append(Text(_explanation(group)))
    sections: list[Section | None] = [top]
    if group.has_distances:
        rows = group.horizons or horizons.measured(group.points)
        sections.append(horizons.horizon_section(group.name, rows, is_search=bool(group.horizons)))
    runs = list(group.labels)
    single = run_sections(runs[0], group.curves.metrics.get(runs[0], ())) if len(runs) == 1 else []
    picture = learning_curves(f"{group.name}_learning", group.points, group.curves.metrics)
    sections += [
        _baseline_section(group),
        class_section(group.points, group.monitor),
        *single,
        flow_section(group.name, group.points, group.curves.flows),
        _further_tests_section(group),
        _cost_section(group),
        None if picture is None else Section("Learning curves", 3, [FigureBlock(picture)]),
        _limitations_section(group),
    ]
    return [section for section in sections if section is not None]


def _score_table(group: RunGroup) -> Table:
    judged = any(run.bound("solved") is not None for point in group.points for run in point.runs)
    rows: list[dict[str, Field]] = []
    for point in group.points:
        run = point.runs[0]
        row: dict[str, Field] = {"": point.label, "distance": format_number(point.distance)}
        row[f"test {group.monitor}"] = format_mean(point.mean, point.deviation)
        row |= {"95 % interval": _interval(point), "seeds": str(len(point.runs))}
        row["solved (validation)"] = str(point.solved)
        row |= {"learning rate": format_number(run.learning_rate), "baseline": format_number(run.baseline)}
        row["linear baseline"] = _linear(point)
        row["best possible"] = format_number(run.bound("optimal")) or "not known"
        row["commands"] = Commands(tuple(each.command for each in point.runs))
        rows.append(row)
    dropped = set() if group.has_distances else {"distance", "learning rate", "best possible"}
    dropped |= set() if judged else {"solved (validation)"}
    dropped |= set() if any(row["linear baseline"] for row in rows) else {"linear baseline"}
    head = tuple(name for name in rows[0] if name not in dropped)
    return Table(head, tuple(tuple(row[name] for name in head) for row in rows))


def _linear(point: Point) -> str:
    """Format the linear baseline's mean test score over the splits of the runs; empty where one has none."""
    scores = [run.linear for run in point.runs if run.linear is not None]
    if len(scores) < len(point.runs):
        return ""
    return format_mean(fmean(scores), stdev(scores) if len(set(scores)) > 1 else None)


def _interval(point: Point) -> str:
    """Format Student's interval for the mean, clipped to the metric's range and the best possible score."""
    run = point.runs[0]
    folds = (str(each.settings.get("task.fold")) for each in point.runs)
    found = run.metric_range().clip(replicate_interval(list(zip(folds, point.scores, strict=True))))
    best = run.bound("optimal")
    if best is not None:
        found = (Range(high=best) if run.maximises else Range(low=best)).clip(found)
    if found.low is None or found.high is None:
        return ""
    return f"{format_number(found.low, 3)} to {format_number(found.high, 3)}"


def _explanation(group: RunGroup) -> str:
    rates = sorted({rate for point in group.points for rate in point.learning_rates})
    text = (
        "Test scores: mean ± standard deviation over the seeds, and Student's interval for the mean, clipped to the"
        " metric's range and the best possible score. Validation scores rank and choose"
        f"{', and decide whether a run solves the task' if group.has_distances else ''}."
    )
    if len(rates) > 1:
        text += (
            f" Of the learning rates {', '.join(map(format_number, rates))} each row has the one with the best mean"
            " validation score among those with the most seeds."
        )
    return text


def _baseline_section(group: RunGroup) -> Section:
    values = {point.distance: point.runs[0].baseline for point in group.points}
    known = sorted({value for value in values.values() if value is not None})
    text = f"Best input-independent prediction, test {group.monitor}: "
    if not known:
        return Section("Baseline", 3, [Text(text + "not known.")])
    ends = format_number(known[0]) + (f" to {format_number(known[-1])} over the distances" if len(known) > 1 else "")
    idle = [point for point in group.points if not point.learned]
    text += f"{ends}. {len(group.points) - len(idle):,} of {len(group.points):,} rows validate better than it"
    return Section("Baseline", 3, [Text(f"{text}, in most of their runs and by more than noise.")])


def _limitations_section(group: RunGroup) -> Section | None:
    """List what the results do not show: few seeds, an unknown optimum, budgets that limit horizons."""
    lines = []
    if any(len(point.runs) == 1 for point in group.points):
        count = sum(len(point.runs) == 1 for point in group.points)
        which = "Every row has" if count == len(group.points) else f"{count:,} of {len(group.points):,} rows have"
        lines.append(f"{which} a single seed: run more seeds to tell settings apart.")
    runs = [run for point in group.points for run in point.runs]
    reasons = {str(run.bounds["reason"]) for run in runs if run.bounds.get("reason") and run.bound("optimal") is None}
    lines += [f"The best possible score is not known: {reason}." for reason in sorted(reasons)]
    if limited := [str(row["label"]) for row in group.horizons if row.get("budget_limited")]:
        lines.append(f"More training extends the horizon of {', '.join(limited)}.")
    return Section("Limitations", 3, [Text(line) for line in lines]) if lines else None


def _further_tests_section(group: RunGroup) -> Section | None:
    rows: list[tuple[Field, ...]] = []
    for point in group.points:
        tests: dict[str, list[float]] = {}
        for run in point.runs:
            for row in run.tables.get("further_tests") or ():
                if isinstance(row, Mapping) and isinstance(value := row.get(group.monitor), float):
                    tests.setdefault(str(row.get("split")), []).append(value)
        trained = [format_number(point.distance)] if group.has_distances else []
        for split, values in tests.items():
            mean = format_mean(fmean(values), stdev(values) if len(values) > 1 else None)
            rows.append((point.label, *trained, split, mean, str(len(values))))
    if not rows:
        return None
    head = ("", *(["trained at"] if group.has_distances else []), "tested on", f"test {group.monitor}", "seeds")
    return Section("Further tests", 3, [Table(tuple(head), tuple(rows))])


def _cost_section(group: RunGroup) -> Section:
    head = ("", "parameters", "state size", "steps/s", "training (s)", "memory (MB)", "GPU memory (MB)", "runs")
    rows: list[tuple[Field, ...]] = []
    for label, points in by_label(group.points).items():
        runs = tuple(run for point in points for run in point.runs)
        together = Point(label, None, runs)
        sizes = [_size_range(runs, name) for name in ("parameters", "state_size")]
        speeds = [format_number(together.cost(name), 3) for name in ("tokens_per_second", "training_seconds")]
        memory = [together.cost(name) for name in ("peak_memory_bytes", "peak_gpu_memory_bytes")]
        megabytes = ["" if amount is None else f"{amount / 1e6:,.0f}" for amount in memory]
        rows.append((label, *sizes, *speeds, *megabytes, str(len(runs))))
    keep = [at for at in range(len(head)) if any(row[at] for row in rows)]
    table = Table(tuple(head[at] for at in keep), tuple(tuple(row[at] for at in keep) for row in rows))
    text = (
        "Medians over the runs of a row. Memory is the peak of the process so far: of several runs in one process, a"
        " later one shows at least the peak of the earlier ones."
    )
    section = Section("Cost", 3, [table, Text(text)])
    if (picture := costs(f"{group.name}_cost", group.points)) is not None:
        section.blocks.insert(0, FigureBlock(picture))
    return section


def _size_range(runs: Sequence[Run], name: str) -> str:
    values = sorted({value for run in runs if (value := run.cost(name)) is not None})
    if not values:
        return ""
    low, high = format_number(values[0]), format_number(values[-1])
    return low if low == high else f"{low} to {high}"
