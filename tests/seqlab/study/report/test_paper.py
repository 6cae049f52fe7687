"""Reports as LaTeX: the source compiles, texts of records are no commands, fonts are embedded."""

import os
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.errors import UserError
from seqlab.study.report import paper, write_report
from seqlab.study.report.document import Commands, Document, Section, Table, Text
from seqlab.study.report.paper import escape, tabular, write_paper

from .sweep_folders import complete, flow_of, page_of


@given(st.text())
def test_no_text_is_a_command(text):
    """What is left without the commands of the escapes is printable ASCII without TeX's special characters."""
    escaped = escape(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    plain = re.sub(r"\$(\\[a-z]+|-|\\\|)\$|\\[`'^~=.\"a-zA-Z]+ ?|\\[{}$&#%_]|[{}]", "", escaped)
    assert not set(plain) & set('\\{}$&#%^~_<>|"`')
    assert len(re.findall(r"(?<!\\)\{", escaped)) == len(re.findall(r"(?<!\\)\}", escaped))


def test_accents_and_unknown_letters():
    assert escape("Müller & ạ 50 %") == r"M\"{u}ller \& \d{a} 50 \%"
    assert escape("语 -- [x]") == r"\texttt{U+8BED} -{}- {[}x{]}"
    assert escape("0.5 ± 0.1") == r"0.5 $\pm$ 0.1"


def test_a_table_of_booktabs():
    rows = (("a_b", "0.9 ± 0.1", Commands(("python",))), ("c", "0.5", ""))
    (text,) = tabular(Table(("", "test accuracy", "commands"), rows, bold=frozenset({0})))
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & test accuracy \\",
        r"\midrule",
        r"a\_b & \textbf{0.9 $\pm$ 0.1} \\",
        r"c & 0.5 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    pages = tabular(Table(("n",), tuple((str(at),) for at in range(100))))
    assert [page.count("\\\\") for page in pages] == [46, 46, 11]


@pytest.fixture(scope="module")
def has_latex():
    """Whether there is a LaTeX: in CI, root on Debian installs it."""
    waiting = ["apt-get", "-o", "DPkg::Lock::Timeout=250", "-qq"]
    install = [*waiting, "install", "-y", "--no-install-recommends", "texlive-latex-recommended", "poppler-utils"]
    may_install = os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get")
    if may_install and shutil.which("pdflatex") is None:
        for command in (install, [*waiting, "update"], install):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0 and command is install:
                break
    return shutil.which("pdflatex") is not None


@pytest.fixture(scope="module")
def source(sweeps, record, tmp_path_factory, has_latex):
    folder, out = complete(sweeps, record), tmp_path_factory.mktemp("paper")
    return write_report([folder], out, form="pdf" if has_latex else "latex").with_suffix(".tex")


@pytest.mark.slow
def test_source_tables_figures_and_methods(source):
    text = source.read_text("ascii")
    for name in re.findall(r"\\input\{(\S+?)\}", text):
        assert (source.parent / f"{name}.tex").read_text("ascii").startswith(r"\begin{tabular}")
    figures = re.findall(r"\\includegraphics\{(\S+?)\}", text)
    assert len(figures) >= 6
    for name in figures:
        content = (source.parent / name).read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/Type3" not in content
        assert b"/FontFile2" in content  # TrueType, embedded
        width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", content)[1])
        assert width == pytest.approx(3.4 * 72)
    methods = (source.parent / "methods.md").read_text("utf-8")
    for fact in ("Seeds: 0, 1", "Splits: split seed 0", "max\\_epochs 1", "16 valid", "torch 2", "was not searched"):
        assert fact in methods
    assert "out of" not in text  # causes of missing runs are no part of a paper


def test_a_metric_and_rows_are_chosen(sweep, record):
    folder = sweep(
        "chosen", [record(cell, at, seed, 0.9) for cell in ("rnn", "gru") for at in (4, 8) for seed in (0, 1)]
    )
    page = page_of(folder, metric="loss", rows=["gru"])
    assert "test loss" in page
    assert "test accuracy" not in page
    assert "Rows: gru." in page
    assert "rnn reaches" not in page
    with pytest.raises(UserError, match=r"--metric f1: the runs have accuracy, loss"):
        page_of(folder, metric="f1")
    with pytest.raises(UserError, match=r"--rows lstm: the rows are rnn; gru"):
        page_of(folder, rows=["lstm"])


def test_without_latex_there_is_one_line(sweep, record, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--format pdf: there is no pdflatex and no tectonic; use --format latex"):
        write_report([sweep("pdf", [record()])], tmp_path / "out", form="pdf")
    assert not (tmp_path / "out").exists()


def test_a_page_and_a_paper_share_a_folder_and_nothing_else_is_replaced(sweep, record, tmp_path):
    folder, out = sweep("both", [], ["never"]), tmp_path / "out"  # no figures, which take the longest
    write_report([folder], out)
    write_report([folder], out, form="latex")
    write_report([folder], out)
    (out / "report.tex").write_text("my own")
    with pytest.raises(UserError, match=r"holds report\.tex, which no report wrote"):
        write_report([folder], out, form="latex")


HOSTILE = r"\input{/etc/passwd} $x$ %&#_{}^~ \write18{id} 语言 Ünïcode -- [a] * \end{document} |<>`'" + '"'


@pytest.mark.slow
def test_it_compiles_with_embedded_fonts(source, tmp_path, has_latex):
    """With TeX Live of Debian: a whole report, and one of texts that are TeX's own characters."""
    if not has_latex:
        pytest.skip("LaTeX is not installed (texlive-latex-recommended)")
    page = source.with_suffix(".pdf")
    assert page.read_bytes().startswith(b"%PDF")
    assert {path.suffix for path in page.parent.iterdir() if path.is_file()} == {".pdf", ".tex", ".md", ".csv"}
    if shutil.which("pdffonts"):
        listed = subprocess.run(["pdffonts", page], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
        assert len(listed) > 3
        assert all("Type 3" not in line for line in listed)
        assert all(line.split()[-5] == "yes" for line in listed)
    letters = "".join([*paper._SPECIAL, *(f"{base}{mark} " for mark in paper._ACCENTS for base in "aijEz")])
    table = Table((HOSTILE, "b"), ((HOSTILE, "1"), ("[b]", "*"), (letters, "?")) * 30)
    document = Document(HOSTILE, [Section(HOSTILE, blocks=[Text(HOSTILE), table])])
    made = write_paper(document, {}, tmp_path / "hostile", paper.find_compiler())
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", made, "-"], capture_output=True, text=True, check=True).stdout
        assert "/etc/passwd" in text  # printed, not read
        assert "root:" not in text


@pytest.mark.parametrize("form", ["html", "latex"])
def test_a_state_of_any_name_is_no_path_and_no_command(sweep, record, tmp_path, form):
    """States of a run's gradient_flow.csv name figures."""
    folder, out = sweep("states", [record("gru")]), tmp_path / "a" / "b" / "out"
    flow_of(folder / "run_0", product=False)
    place = folder / "run_0" / "curves" / "gradient_flow.csv"
    place.write_text(place.read_text("utf-8").replace(",h,", ",/../../../../evil}\\input{x,"), "utf-8")
    write_report([folder], out, form=form)
    assert not [path for path in tmp_path.rglob("*evil*") if out / "figures" != path.parent]
    if form == "latex":
        assert r"\input{x" not in (out / "report.tex").read_text("ascii").replace(r"\textbackslash{}input\{x", "")


def test_a_source_without_its_pdf_leaves_no_old_one(sweep, record, tmp_path):
    folder, out = sweep("old", [], ["never"]), tmp_path / "out"
    write_report([folder], out, form="latex")
    (out / "report.pdf").write_bytes(b"of an earlier source")
    write_report([folder], out, form="latex")
    assert not (out / "report.pdf").exists()
