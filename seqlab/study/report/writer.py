"""Files of a report: a page or a paper, ``methods.md``, ``results.csv``, ``horizons.csv`` and ``figures/``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from seqlab.errors import UserError, check_choice
from seqlab.io.atomic import write_text
from seqlab.io.csv_files import csv_field, csv_text
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import check_links, escape_control, open_regular
from seqlab.runs.scores import deciding_verdict
from seqlab.study.plotting import column_figures, save_figure
from seqlab.study.report import horizons, paper, reach
from seqlab.study.report.anonymous import anonymise, anonymise_faults
from seqlab.study.report.document import Document, Section, Text, html, inline_svg, markdown, render_svg
from seqlab.study.report.figures import Picture, aggregate
from seqlab.study.report.methods import methods_section
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
from seqlab.study.report.sections import MISSING, RunGroup, group_sections, setup_sections

Format = Literal["html", "latex", "pdf"]
TABLES = ("results.csv", "horizons.csv", "methods.md")
_COSTS = (
    "parameters",
    "state_size",
    "training_seconds",
    "tokens_per_second",
    "examples_per_second",
    "peak_memory_bytes",
    "peak_gpu_memory_bytes",
)


def results_csv(
    labels: Mapping[Run, str], faults: Sequence[Fault], name_of: Callable[[Path], str] = relative_path
) -> str:
    """Format all runs as one table: settings that vary, metrics with their baseline, cost, command; then faults."""
    by_task: dict[str, list[Run]] = {}
    for run in labels:
        by_task.setdefault(run.task, []).append(run)
    varied = {task: [*REPLICATES[1:], *varied_settings(runs)] for task, runs in by_task.items()}
    rows = []
    for run, label in labels.items():
        rows.append({**_row(run, label), "folder": name_of(run.folder)})
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
    }


PAGE = "report.html"
_MARKERS = {PAGE: b"default-src 'none'; style-src 'unsafe-inline'", paper.SOURCE: paper.MARKER}
"""What is in the head of each page (its content security policy) and of each paper."""


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    form: Format = "html",
    on_progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Path:
    """Report on all runs below some folders.

    Args:
        folders: of sweeps, of runs, or folders that contain them.
        out: folder for the files; an earlier report is replaced.
        form: ``html``: a page and Markdown; ``latex``: the source of a paper with tables and figures of their own;
            ``pdf``: the same and its PDF.
        on_progress: called with a line from time to time.
        options: those of :func:`compose`.

    Raises:
        UserError: a folder holds no runs; runs of one task are not comparable; there is no such metric or row; ``out``
            cannot be written, or has files of these names that no report wrote; LaTeX is missing or fails.
    """
    check_choice("format", form, Format)
    check_links(out)
    check_replaceable(out)
    if form != "html":
        compiler = paper.find_compiler() if form == "pdf" else None
        with column_figures():
            document, tables = compose(folders, on_progress=on_progress, **options)
            return paper.write_paper(document, tables, out, compiler)
    document, tables = compose(folders, on_progress=on_progress, **options)
    figures = {}
    for count, picture in enumerate(document.pictures, start=1):
        on_progress(f"figure {count} of {len(document.pictures)}")
        figures[picture.name] = _save(picture, out / "figures")
    for name, text in {PAGE: html(document, figures), "report.md": markdown(document), **tables}.items():
        write_text(out / name, escape_control(text))
    return out / PAGE


def check_replaceable(out: Path) -> None:
    """Check that no file would be replaced that no report wrote; the page or source, written first, identifies one."""
    others = [name for name in ("report.md", "report.pdf", *TABLES) if (out / name).exists()]
    pages = [name for name in _MARKERS if (out / name).is_file()]
    for name in pages:
        with open_regular(out / name) as file:
            if _MARKERS[name] not in file.read(1000):
                raise UserError(f"{out} holds {name}, which no report wrote; choose another folder with --out")
    if others and not pages:
        raise UserError(f"{out} holds {others[0]}, which no report wrote; choose another folder with --out")


def _save(picture: Picture, folder: Path) -> str:
    svg = render_svg(picture)
    write_text(folder / f"{picture.name}.svg", svg)
    save_figure(picture.figure, folder / f"{picture.name}.png", dpi=150)
    return inline_svg(picture, svg)


def compose(
    folders: Sequence[Path],
    *,
    apart: bool = False,
    metric: str | None = None,
    rows: Sequence[str] = (),
    anonymous: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[Document, dict[str, str]]:
    """Compose a report without writing it; errors as of :func:`write_report`.

    Args:
        folders: of sweeps, of runs, or folders that contain them.
        apart: put runs that are not comparable into separate sections.
        metric: test metric to report in place of the monitored one, which still chooses.
        rows: labels to report, or their first words; none: all.
        anonymous: leave out absolute paths, commits, and the names of users and computers.
        on_progress: called with a line from time to time.

    Returns:
        Document, and by file name the methods, the table of all runs and, if there are any, that of the searches'
        horizons.
    """
    found = collect(folders, on_progress)
    scrubber = anonymise(found, folders) if anonymous else None
    _choose_metric(found, metric)
    groups = _choose_rows(found, list(_groups(found, apart=apart)), rows)
    if scrubber is not None:
        anonymise_faults(found, scrubber)  # those of the curves
    methods = [methods_section(each.title, [*each.labels], [*each.labels.values()]) for each in groups]
    document = _document(found, groups, methods, setup_sections(found, [] if anonymous else folders))
    labels = {run: label for group in groups for run, label in group.labels.items()}
    runs = results_csv(labels, found.faults, (lambda folder: folder.name) if anonymous else relative_path)
    tables = {"methods.md": markdown(Document("Methods", methods)), "results.csv": runs}
    if found.horizons:
        tables["horizons.csv"] = _csv(reach.COLUMNS, reach.horizon_rows(found.horizons))
    if scrubber is not None:
        return scrubber.value(document), {name: scrubber.text(text) for name, text in tables.items()}
    return document, tables


def _document(
    found: Collected, groups: Sequence[RunGroup], methods: Sequence[Section], setup: Sequence[Section]
) -> Document:
    """Put results first, with a note on missing runs, then the methods and the setup."""
    sections = [section for group in groups for section in group_sections(group)]
    what = "Horizons" if any(group.has_distances for group in groups) else "Results"
    title = f"{what}: {', '.join(group.title for group in groups)}" if groups else "No finished run"
    if (section := reach.reach_section(found.horizons)) is not None:
        sections.insert(0, section)
    missing = [each for each in setup if each.title == MISSING]
    for note in (block for each in missing for block in each.blocks if isinstance(block, Text)):
        if sections:
            place = sum(isinstance(block, Text) and block.is_result for block in sections[0].blocks)
            sections[0].blocks.insert(place, Text(f"{note.text} See {MISSING}.", is_caution=True))
    return Document(title, [*sections, *methods, *setup])


def _choose_metric(found: Collected, metric: str | None) -> None:
    """Report a metric of the test split in place of the monitored one."""
    if metric is None:
        return
    known = sorted({str(name) for run in found.runs for name in run.record["metrics"]["test"]})
    if metric not in known:
        raise UserError(f"--metric {metric}: the runs have {', '.join(known) or 'no metrics'}")
    found.runs = [replace(run, metric=metric) for run in found.runs]


def _choose_rows(found: Collected, groups: Sequence[RunGroup], rows: Sequence[str]) -> Sequence[RunGroup]:
    """Keep some rows of all groups and searches."""
    if not rows:
        return groups
    labels = [label for group in groups for label in dict.fromkeys(group.labels.values())]

    def is_chosen(label: str) -> bool:
        return label in rows or label.partition(" ")[0] in rows

    for row in rows:
        if row not in labels and row not in {label.partition(" ")[0] for label in labels}:
            raise UserError(f"--rows {row}: the rows are {'; '.join(dict.fromkeys(labels))}")
    found.horizons = [
        (folder, {**search, "rows": [row for row in search["rows"] if is_chosen(str(row["label"]))]})
        for folder, search in found.horizons
    ]
    kept = [
        replace(
            group,
            labels={run: label for run, label in group.labels.items() if is_chosen(label)},
            points=[point for point in group.points if is_chosen(point.label)],
            horizons=[row for row in group.horizons if is_chosen(str(row["label"]))],
        )
        for group in groups
    ]
    return [group for group in kept if group.labels]


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
