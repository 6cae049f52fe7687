"""``results.csv``: a row for each run, done or not."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.io.atomic import write_bytes, write_text
from seqlab.io.csv_files import csv_text
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import check_links, escape_control, open_regular
from seqlab.runs.scores import deciding_verdict
from seqlab.study.report import horizons
from seqlab.study.report.curves import read_all
from seqlab.study.report.document import Document, FigureBlock
from seqlab.study.report.figures import points
from seqlab.study.report.reading import Collected, Fault, collect
from seqlab.study.report.runs import DISTANCE, RATE, REPLICATES, Run, differences, labels, show, varying
from seqlab.study.report.sections import Part, header, task_sections

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
    """Write all runs as one table: what was varied, metrics with their chance, cost, command; then what is missing."""
    rows = [_row(run, label) for run, label in labels.items()]
    by_task: dict[str, list[Run]] = {}
    for run in labels:
        by_task.setdefault(run.task, []).append(run)
    varied = {task: [key for key in varying(runs) if key not in (DISTANCE, RATE)] for task, runs in by_task.items()}
    for run, row in zip(labels, rows, strict=True):
        row |= {key: run.settings[key] for key in varied[run.task] if key in run.settings}
    rows += [
        {"state": fault.kind, "folder": fault.place, "cause": fault.what, "command": fault.command} for fault in faults
    ]
    first = ("task", "label", "distance", "seed", "learning_rate", "state", "verdict")
    last = ("command", "folder", "cause")
    columns = dict.fromkeys([*first, *(name for row in rows for name in row if name not in last), *last])
    return csv_text([{name: _field(value) for name, value in row.items()} for row in rows], list(columns))


def _row(run: Run, label: str) -> dict[str, Any]:
    tested = run.record["metrics"]["test"]
    blind = (run.record.get("chance") or {}).get("test") or {}
    row = {
        "task": run.task,
        "label": label,
        "distance": run.distance,
        "seed": run.seed,
        "learning_rate": run.rate,
        "state": "done",
        "verdict": run.record.get("verdict"),
        "monitor": run.monitor,
        **{f"test/{name}": value for name, value in tested.items()},
        **{f"chance/{name}": value for name, value in blind.items()},
        f"valid/{run.monitor}": run.valid,
        "valid/verdict": deciding_verdict(run.record),
        "bounds/chance": run.bounds.get("chance"),
        "bounds/optimal": run.bounds.get("optimal"),
        "bounds/solved": run.bounds.get("solved"),
        **{name: run.cost(name) for name in _COSTS},
        "command": run.command,
        "folder": relative_path(run.folder),
    }
    row |= {key: run.settings[key] for key in REPLICATES[1:] if key in run.settings}
    return row


def _field(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


PAGE = "report.html"
_MARK = b"default-src 'none'; style-src 'unsafe-inline'"
"""Of each page, in its head."""


def write_report(
    folders: Sequence[Path], out: Path, *, apart: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Path:
    """Report on all runs in some folders.

    Args:
        folders: of sweeps, of runs, or of some of them.
        out: where ``report.html``, ``report.md``, ``results.csv`` and ``figures`` go; an earlier report is replaced.
        apart: put runs that are not comparable into sections of their own.
        tell: is told now and then how far it is.

    Returns:
        The page.

    Raises:
        UserError: a folder holds no runs; runs of one task are not comparable; ``out`` cannot be written, or has files
            of such names that are no report's.
    """
    check_links(out)
    _check_free(out)
    document, table = compose(folders, apart=apart, tell=tell)
    pictures = [block.picture for each in document.sections for block in each.blocks if isinstance(block, FigureBlock)]
    inlined = {}
    for count, picture in enumerate(pictures, start=1):
        tell(f"figure {count} of {len(pictures)}")
        inlined[picture.name] = _save(picture, out / "figures")
    from seqlab.study.report.document import html, markdown

    for name, text in ((PAGE, html(document, inlined)), ("report.md", markdown(document)), ("results.csv", table)):
        write_text(out / name, escape_control(text))
    return out / PAGE


def _check_free(out: Path) -> None:
    """Check that no file would be replaced that no report wrote: the page, which names its policy, is written first."""
    page = out / PAGE
    others = [name for name in ("report.md", "results.csv") if (out / name).exists()]
    if page.is_file():
        with open_regular(page) as file:
            is_report = _MARK in file.read(1000)
        others = [] if is_report else [PAGE]
    if others:
        raise UserError(f"{out} holds {others[0]}, which no report wrote; choose another folder by --out")


def compose(
    folders: Sequence[Path], *, apart: bool = False, tell: Callable[[str], None] = lambda _: None
) -> tuple[Document, str]:
    """Make a report before anything of it is drawn or written: the document, and the table of all runs as CSV.

    Args:
        folders: as of :func:`write`.
        apart: the same.
        tell: the same.

    Raises:
        UserError: as :func:`write`, but for writing.
    """
    found = collect(folders, tell)
    parts = list(_parts(found, apart=apart))
    sections = [section for part in parts for section in task_sections(part)]
    question = "How far back" if any(part.has_distances for part in parts) else "What was found"
    title = f"{question}: {', '.join(part.title for part in parts)}" if parts else "No run is done"
    named = {run: label for part in parts for run, label in part.labels.items()}
    return Document(title, [*header(found, folders), *sections]), results_csv(named, found.faults)


def _save(picture: Any, folder: Path) -> str:
    from seqlab.study.report.document import inline, png, standalone

    text, data = standalone(picture), png(picture)
    write_text(folder / f"{picture.name}.svg", text)
    write_bytes(folder / f"{picture.name}.png", data)
    return inline(picture, text)


def _parts(found: Collected, *, apart: bool) -> Iterator[Part]:
    """Put the runs of each task into one part, or where asked into several.

    Raises:
        UserError: they are not comparable, and nobody asked.
    """
    curves = read_all(found.runs, found.faults)
    for task in dict.fromkeys(run.task for run in found.runs):
        runs = [run for run in found.runs if run.task == task]
        differing = differences(runs)
        if differing and not apart:
            raise UserError(
                f"task={task}: these folders are not comparable: {'; '.join(differing)} differ between them;"
                " report them one at a time, or with --apart in sections of their own"
            )
        groups = _alike(runs) if differing else {task: runs}
        for place, (title, group) in enumerate(groups.items(), start=1):
            named = labels(group)
            rows = horizons.searched(
                task, [each for each in found.horizons if any(run.source == each[0] for run in group)]
            )
            name = task if len(groups) == 1 else f"{task}_{place}"
            yield Part(name, title, named, points(named), rows, curves)


def _alike(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by what makes them incomparable: the guarded settings that differ between their folders."""
    keys = [text.partition(" (")[0] for text in differences(runs)]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        own = [f"{key}={show(run.settings[key])}" for key in keys if key in run.settings]
        own += [f"monitor={run.monitor}"] if "the monitored metric" in keys else []
        groups.setdefault(" ".join([run.task, *own]), []).append(run)
    return groups
