"""A report's folder: one page, the same as Markdown, the table of all runs, and the figures."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqlab.bounded import no_way_out, open_regular, printable
from seqlab.errors import UserError
from seqlab.study.report import horizons
from seqlab.study.report.blocks import Document, Shown
from seqlab.study.report.csvtable import results_csv
from seqlab.study.report.curves import read_all
from seqlab.study.report.points import points
from seqlab.study.report.reading import Found, collect
from seqlab.study.report.runs import Run
from seqlab.study.report.sections import Part, header, task_sections
from seqlab.study.report.settings import differences, labels, show
from seqlab.training.runfolder import write_atomically, write_text

PAGE = "report.html"
_MARK = b"default-src 'none'; style-src 'unsafe-inline'"
"""Of each page, in its head."""


def write(
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
    no_way_out(out)
    _check_free(out)
    document, table = compose(folders, apart=apart, tell=tell)
    pictures = [block.picture for each in document.sections for block in each.blocks if isinstance(block, Shown)]
    inlined = {}
    for count, picture in enumerate(pictures, start=1):
        tell(f"figure {count} of {len(pictures)}")
        inlined[picture.name] = _save(picture, out / "figures")
    from seqlab.study.report.render import html, markdown

    for name, text in ((PAGE, html(document, inlined)), ("report.md", markdown(document)), ("results.csv", table)):
        write_text(out / name, printable(text))
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
    from seqlab.study.report.svg import inline, png, standalone

    text, data = standalone(picture), png(picture)
    write_text(folder / f"{picture.name}.svg", text)
    write_atomically(folder / f"{picture.name}.png", lambda file: _write(file, data))
    return inline(picture, text)


def _write(file: Any, data: bytes) -> None:
    file.write(data)


def _parts(found: Found, *, apart: bool) -> Iterator[Part]:
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
