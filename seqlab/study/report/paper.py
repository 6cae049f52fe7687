r"""Report as LaTeX: a source, a file for each table (booktabs) and figure (PDF), and its PDF.

Texts come from run folders, so that all are escaped, to ASCII: no text of a record is a command of TeX. Characters
without a letter of their own in TeX's standard fonts are written as ``U+1EA1``.
"""

import os
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

from seqlab.errors import UserError
from seqlab.io.atomic import write_bytes, write_text
from seqlab.study.plotting import save_figure
from seqlab.study.report.document import Block, Commands, Document, FigureBlock, Section, Table, Text
from seqlab.study.report.figures import Picture

SOURCE, PDF = "report.tex", "report.pdf"
MARKER = b"% Report of seqlab"
_SKIPPED = frozenset({"Settings", "Confident errors", "Setup", "Missing runs"})
"""Sections of a page that a paper has no place for."""
_MAX_ROWS = 45
"""Rows of a table on one page."""
_SECONDS = 240
"""Time for LaTeX."""

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "−": "$-$", "→": r"$\to$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "∞": r"$\infty$",
    "∂": r"$\partial$", "‖": r"$\|$", "…": r"\ldots{}", "–": r"\textendash{}", "—": r"\textemdash{}",
    "’": r"\textquoteright{}", "‘": r"\textquoteleft{}", "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "œ": r"\oe{}", "Œ": r"\OE{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0331": "b",
}  # fmt: skip


def escape(text: str) -> str:
    """Return a text as ASCII that LaTeX prints; line breaks become blanks."""
    escaped = "".join(map(_character, unicodedata.normalize("NFC", " ".join(text.split()))))
    return re.sub("-(?=-)", "-{}", escaped)  # two would become a dash


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if " " <= character <= "~":
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and marks and all(mark in _ACCENTS for mark in marks):
        shown = {"i": r"\i{}", "j": r"\j{}"}.get(base, base)
        for mark in marks:
            shown = rf"\{_ACCENTS[mark]}{{{shown}}}"
        return shown
    return rf"\texttt{{U+{ord(character):04X}}}"


def tabular(table: Table) -> list[str]:
    """Return a table as ``tabular`` environments, one for each page; the mean of a row in bold is bold.

    Columns are those of :attr:`Table.in_print`; commands are left out.
    """
    heads = [
        at
        for at, name in enumerate(table.head)
        if (name in table.in_print if table.in_print else not any(isinstance(row[at], Commands) for row in table.rows))
    ]
    means = {at for at in heads if table.head[at].startswith("test ")}
    align = "".join("r" if table.is_numeric(at) else "l" for at in heads)
    head = " & ".join(escape(table.head[at]) for at in heads) + r" \\"
    pages = []
    for begin in range(0, len(table.rows), _MAX_ROWS):
        lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule"]
        lines = lines if head.strip(" &\\") else lines[:2]
        for place, row in enumerate(table.rows[begin : begin + _MAX_ROWS], start=begin):
            marked = means if place in table.bold else set()
            texts = (escape(str(row[at])) for at in heads)
            fields = (rf"\textbf{{{text}}}" if at in marked else text for at, text in zip(heads, texts, strict=True))
            lines.append(" & ".join(fields) + r" \\")
        pages.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))
    return pages


@final
class _Source:
    """Source of a paper, whose tables are files of their own."""

    def __init__(self, document: Document) -> None:
        self.tables: dict[str, str] = {}
        self.sections = [each for each in document.sections if each.title not in _SKIPPED]
        self.title = document.title

    def text(self) -> str:
        """Return the file that has everything."""
        body = [line for section in self.sections for line in self._section(section)]
        preamble = (
            MARKER.decode(), r"\documentclass[10pt]{article}", r"\usepackage[a4paper,margin=25mm]{geometry}",
            r"\usepackage{booktabs,graphicx}", r"\ifdefined\pdfsuppressptexinfo\pdfsuppressptexinfo=-1\fi",
            r"\setlength{\parindent}{0pt}", r"\setlength{\parskip}{4pt}", r"\sloppy",
            r"\newcommand{\fitted}[1]{\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{#1}}",
            r"\newcommand{\shown}[2]{\begin{center}\fitted{#1}\par\smallskip{\small #2}\end{center}}",
            rf"\title{{{escape(self.title)}}}", r"\author{}", r"\date{}", r"\begin{document}", r"\maketitle",
        )  # fmt: skip
        return "\n".join([*preamble, *body, r"\end{document}", ""])

    def _section(self, section: Section) -> Iterator[str]:
        kind = "section" if section.level == 2 else "subsection"
        yield rf"\{kind}*{{{escape(section.title)}}}"
        for block in section.blocks:
            yield from self._block(block, section.title)

    def _block(self, block: Block, title: str) -> Iterator[str]:
        if isinstance(block, Text):
            text = escape(block.text)
            yield (
                rf"\textbf{{{text}}}" if block.is_result else rf"\emph{{{text}}}" if block.is_caution else text
            ) + "\n"
        elif isinstance(block, FigureBlock):
            name, caption = _file_name(block.picture), escape(block.picture.caption)
            yield rf"\shown{{\includegraphics{{figures/{name}.pdf}}}}{{{caption}}}"
        elif isinstance(block, Table):
            for page in tabular(block):
                yield from self._table(page, title)

    def _table(self, page: str, title: str) -> Iterator[str]:
        stem = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:40] or "table"
        name = f"{len(self.tables) + 1:02d}_{stem}"
        self.tables[name] = page
        yield rf"\shown{{\input{{tables/{name}}}}}{{}}"


def _file_name(picture: Picture) -> str:
    """Return the name of a figure's file, which stands in the source and may have a record's text in it."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", picture.name)


def write_paper(document: Document, tables: Mapping[str, str], out: Path, compiler: Sequence[str] | None) -> Path:
    """Write source, tables and figures, and with a compiler the PDF.

    Args:
        document: drawn at the width of a column.
        tables: further files by name.
        out: folder.
        compiler: command of :func:`find_compiler`.

    Raises:
        UserError: LaTeX fails.
    """
    source = _Source(document)
    (out / PDF).unlink(missing_ok=True)  # that of an earlier source
    write_text(out / SOURCE, source.text())
    for name, text in source.tables.items():
        write_text(out / "tables" / f"{name}.tex", text)
    for picture in document.pictures:
        save_figure(picture.figure, out / "figures" / f"{_file_name(picture)}.pdf")
    for name, text in tables.items():
        write_text(out / name, text)
    if compiler is None:
        return out / SOURCE
    write_bytes(out / PDF, _compile(out, compiler, [*source.tables], [*map(_file_name, document.pictures)]))
    return out / PDF


_COMPILERS = (
    ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"),
    ("tectonic", "--untrusted"),
)


def find_compiler() -> Sequence[str]:
    """Return the command that makes a PDF of a LaTeX file."""
    for name, *options in _COMPILERS:
        if (program := shutil.which(name)) is not None:
            return [program, *options]
    names = " and no ".join(name for name, *_ in _COMPILERS)
    raise UserError(
        f"--format pdf: there is no {names}; use --format latex, or install LaTeX"
        " (Debian: apt-get install texlive-latex-recommended)"
    )


def _compile(out: Path, compiler: Sequence[str], tables: Sequence[str], figures: Sequence[str]) -> bytes:
    """Compile in a folder of its own, so that nothing but the PDF is left."""
    files = [SOURCE, *(f"tables/{name}.tex" for name in tables), *(f"figures/{name}.pdf" for name in figures)]
    with tempfile.TemporaryDirectory() as made:
        for name in files:
            (Path(made) / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(out / name, Path(made) / name)
        environment = {**os.environ, "openin_any": "p", "openout_any": "p", "SOURCE_DATE_EPOCH": "0"}
        try:
            done = subprocess.run(
                [*compiler, SOURCE], cwd=made, env=environment, timeout=_SECONDS, capture_output=True, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{out / SOURCE}: {Path(compiler[0]).name} failed: {error}") from error
        pdf = Path(made) / PDF
        if done.returncode or not pdf.is_file():
            lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
            cause = next((line for line in lines if line.startswith(("!", "error:"))), "no PDF")
            raise UserError(f"{out / SOURCE}: {Path(compiler[0]).name} failed: {cause}")
        return pdf.read_bytes()
