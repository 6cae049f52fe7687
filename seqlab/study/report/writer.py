"""Files of a report: ``report.html``, ``report.md``, ``results.csv``, ``horizons.csv`` and ``figures/``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.io.atomic import write_text
from seqlab.io.csv_files import csv_field, csv_text
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import check_links, escape_control, open_regular
from seqlab.runs.scores import deciding_verdict
from seqlab.study.plotting import save_figure
from seqlab.study.report import horizons, reach
from seqlab.study.report.document import Document, html, inline_svg, markdown, render_svg
from seqlab.study.report.figures import Picture, aggregate
from seqlab.study.report.reading import Collected, Fault, collect, collect_curves
from seqlab.study.report.runs import (
    DISTANCE,
    LEARNING_RATE,
    REPLICATES,
    Run,
    format_setting,
    incomparable_settings,
    label_runs,
    varied_settings,
)
from seqlab.study.report.sections import RunGroup, group_sections, header_sections

_COSTS = (
    "parameters",
    "state_size",
    "training_seconds",
    "tokens_per_second",
    "examples_per_second",
    "peak_memory_bytes",
    "peak_gpu_memory_bytes",
)


def results_csv(labels: Mapping[Run, str], faults: Sequence[Fault]) -> str:
    """Format all runs as one table: settings that vary, metrics with their baseline, cost, command; then faults."""
    by_task: dict[str, list[Run]] = {}
    for run in labels:
        by_task.setdefault(run.task, []).append(run)
    varied = {task: [*REPLICATES[1:], *varied_settings(runs)] for task, runs in by_task.items()}
    rows = []
    for run, label in labels.items():
        rows.append(_row(run, label))
        keys = [key for key in varied[run.task] if key in run.settings and key not in (DISTANCE, LEARNING_RATE)]
        rows[-1] |= {key: run.settings[key] for key in keys}
    rows += [
        {"state": fault.kind, "folder": fault.place, "cause": fault.cause, "command": fault.command} for fault in faults
    ]
    first = ("task", "label", "distance", "seed", "learning_rate", "state", "verdict")
    last = ("command", "folder", "cause")
    columns = dict.fromkeys([*first, *(name for row in rows for name in row if name not in last), *last])
    return _csv(list(columns), rows)


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    return csv_text(({key: csv_field(row.get(key)) for key in columns} for row in rows), columns)


def _row(run: Run, label: str) -> dict[str, Any]:
    baseline = (run.record.get("chance") or {}).get("test") or {}
    return {
        "task": run.task,
        "label": label,
        "distance": run.distance,
        "seed": run.seed,
        "learning_rate": run.learning_rate,
        "state": "done",
        "verdict": run.record.get("verdict"),
        "monitor": run.monitor,
        **{f"test/{name}": value for name, value in run.record["metrics"]["test"].items()},
        **{f"chance/{name}": value for name, value in baseline.items()},
        **({} if run.linear is None else {f"linear/{run.monitor}": run.linear}),
        f"valid/{run.monitor}": run.validation_score(),
        "valid/verdict": deciding_verdict(run.record),
        **{f"bounds/{name}": run.bounds.get(name) for name in ("chance", "optimal", "solved")},
        **{f"lengths/{name}": value for name, value in run.lengths.items()},
        **{name: run.cost(name) for name in _COSTS},
        "command": run.command,
        "folder": relative_path(run.folder),
    }


PAGE = "report.html"
_MARKER = b"default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy in the head of each page."""


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    apart: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Report on all runs below some folders.

    Args:
        folders: of sweeps, of runs, or folders that contain them.
        out: folder for the files; an earlier report is replaced.
        apart: put runs that are not comparable into separate sections.
        on_progress: called with a line from time to time.

    Raises:
        UserError: a folder holds no runs; runs of one task are not comparable; ``out`` cannot be written, or has files
            of these names that no report wrote.
    """
    check_links(out)
    check_replaceable(out)
    document, tables = compose(folders, apart=apart, on_progress=on_progress)
    figures = {}
    for count, picture in enumerate(document.pictures, start=1):
        on_progress(f"figure {count} of {len(document.pictures)}")
        figures[picture.name] = _save(picture, out / "figures")
    for name, text in {PAGE: html(document, figures), "report.md": markdown(document), **tables}.items():
        write_text(out / name, escape_control(text))
    return out / PAGE


def check_replaceable(out: Path) -> None:
    """Check that no file would be replaced that no report wrote; the page, written first, identifies one."""
    page = out / PAGE
    others = [name for name in ("report.md", "results.csv", "horizons.csv") if (out / name).exists()]
    if page.is_file():
        with open_regular(page) as file:
            is_report = _MARKER in file.read(1000)
        others = [] if is_report else [PAGE]
    if others:
        raise UserError(f"{out} holds {others[0]}, which no report wrote; choose another folder with --out")


def _save(picture: Picture, folder: Path) -> str:
    svg = render_svg(picture)
    write_text(folder / f"{picture.name}.svg", svg)
    save_figure(picture.figure, folder / f"{picture.name}.png", dpi=150)
    return inline_svg(picture, svg)


def compose(
    folders: Sequence[Path], *, apart: bool = False, on_progress: Callable[[str], None] = lambda _: None
) -> tuple[Document, dict[str, str]]:
    """Compose a report without writing it; arguments and errors as of :func:`write_report`.

    Returns:
        Document, and by file name the table of all runs and, if there are any, that of the searches' horizons.
    """
    found = collect(folders, on_progress)
    groups = list(_groups(found, apart=apart))
    sections = [section for group in groups for section in group_sections(group)]
    what = "Horizons" if any(group.has_distances for group in groups) else "Results"
    title = f"{what}: {', '.join(group.title for group in groups)}" if groups else "No finished run"
    labels = {run: label for group in groups for run, label in group.labels.items()}
    if (section := reach.reach_section(found.horizons)) is not None:
        sections.insert(0, section)
    tables = {"results.csv": results_csv(labels, found.faults)}
    if found.horizons:
        tables["horizons.csv"] = _csv(reach.COLUMNS, reach.horizon_rows(found.horizons))
    return Document(title, [*header_sections(found, folders), *sections]), tables


def _groups(found: Collected, *, apart: bool) -> Iterator[RunGroup]:
    """Put the runs of each task into one group; incomparable ones into several if ``apart``."""
    curves = collect_curves(found)
    for task in dict.fromkeys(run.task for run in found.runs):
        runs = [run for run in found.runs if run.task == task]
        differing = incomparable_settings(runs)
        if differing and not apart:
            raise UserError(
                f"task={task}: these folders are not comparable: {'; '.join(differing)} differ between them;"
                " report on each by itself, or use --apart for separate sections"
            )
        groups = _comparable(runs) if differing else {task: runs}
        for place, (title, group) in enumerate(groups.items(), start=1):
            labels = label_runs(group)
            searches = [each for each in found.horizons if any(run.source == each[0] for run in group)]
            name = task if len(groups) == 1 else f"{task}_{place}"
            points = aggregate({run: label for run, label in labels.items() if not run.is_curriculum_trial})
            yield RunGroup(name, title, labels, points, horizons.searched(task, searches), curves)


def _comparable(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by the controlled settings that differ between their folders."""
    keys = [text.partition(" (")[0] for text in incomparable_settings(runs)]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        settings = [f"{key}={format_setting(run.settings[key])}" for key in keys if key in run.settings]
        settings += [f"monitor={run.monitor}"] if "the monitored metric" in keys else []
        groups.setdefault(" ".join([run.task, *settings]), []).append(run)
    return groups
