"""Text sets as their authors publish them: rows, labels and order in training, ``evaluate`` and ``predict``."""

import csv
import io
import json
from dataclasses import replace

import pytest

from seqlab.cli.commands.evaluate import labelled_texts
from seqlab.cli.tables import open_table
from seqlab.io.tables import Layout
from seqlab_tasks.textclf import TextClassification

from .own_texts import BAD, GOOD, rows_of

ROWS = [row for pair in zip(GOOD, BAD, strict=True) for row in ((pair[0], "1"), (pair[1], "0"))]


def lines(form, end="\n", header=""):
    return header + "".join(form.format(text=text, label=label) + end for text, label in ROWS)


def quoted(*columns, header=(), **format_options):
    """Rows with every field in quotes; columns are functions of the number, text and label of a row."""
    file = io.StringIO(newline="")
    table = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n", **format_options)
    table.writerows([header] if header else [])
    table.writerows([column(*row) for column in columns] for row in ((i, *row) for i, row in enumerate(ROWS)))
    return file.getvalue()


def number(i, text, label):
    return str(i)


def parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    labels = pyarrow.array([int(label) for _, label in ROWS])
    parquet.write_table(pyarrow.table({"text": [text for text, _ in ROWS], "label": labels}), path)


def workbook(path):
    book = pytest.importorskip("openpyxl").Workbook()
    sheet = book.active
    sheet.append(["Nr", "Kommentar", "Note"])
    for i, (text, label) in enumerate(ROWS):
        sheet.append([i, text, int(label)])
    book.create_sheet("other").append(["text", "label"])
    book.save(path)


ODD = '"{text} he said, "no'
HEADERLESS = {"header": "none", "text_column": "2", "label_column": "1"}
LAYOUTS = {
    # name of the file: content, options, what a text becomes
    "SMSSpamCollection": (lines("{label}\t" + ODD), HEADERLESS, '"{} he said, "no'),
    "train.csv": (
        quoted(lambda i, t, lab: lab, lambda i, t, lab: f"Title {i}", lambda i, t, lab: f'{t} - the "best"\\n'),
        {"header": "none", "text_column": [3], "label_column": "1"},
        '{} - the "best"\\n',
    ),
    "sst.tsv": (
        lines('{text} -lrb- `` so "\t{label}', header="sentence\tlabel\n"),
        {"text_column": "sentence"},
        '{} -lrb- `` so "',
    ),
    "Tweets.csv": (
        quoted(
            number, lambda i, t, lab: lab, lambda i, t, lab: f"@Virgin {t},\nagain", header=("id", "sent", "text")
        ),
        {"label_column": "sent"},
        "@Virgin {},\nagain",
    ),
    "export.csv": (
        lines("{text}, schön – wirklich;{label}", "\r\n", "Kommentar;Note\r\n").encode("cp1252"),
        {"text_column": "Kommentar", "label_column": "Note", "encoding": "cp1252"},
        "{}, schön – wirklich",
    ),
    "no_header.csv": (
        lines("{label};{text}, really", "\r\n"),
        HEADERLESS,
        "{}, really",
    ),
    "unicode.txt": (
        lines("{label}\t{text} é", "\r\n", "label\ttext\r\n").encode("utf-16"),
        {"encoding": "utf-16"},
        "{} é",
    ),
    "pandas.csv": (
        quoted(number, lambda i, t, lab: t, lambda i, t, lab: lab, header=("", "text", "label")).replace('"', ""),
        {},
        "{}",
    ),
    "reviews.json": (
        "".join(json.dumps({"overall": int(lab), "reviewText": t, "n": [1, 0]}) + "\n" for t, lab in ROWS),
        {"text_column": "reviewText", "label_column": "overall"},
        "{}",
    ),
    "array.json": (json.dumps([{"text": t, "label": int(lab)} for t, lab in ROWS], indent=1), {}, "{}"),
    "hub.parquet": (parquet, {}, "{}"),
    "survey.xlsx": (workbook, {"text_column": "Kommentar", "label_column": "Note"}, "{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_is_read_in_order(tmp_path, name):
    content, options, form = LAYOUTS[name]
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    expected = [(form.format(text), label) for text, label in ROWS]
    task = TextClassification(data=str(path), **options)
    _, documents = task.read_own()
    assert list(zip(documents.texts, documents.labels, strict=True)) == expected
    assert sorted((text, label) for _, label, text in rows_of(task)) == sorted(expected)
    options = dict(options)
    text, label = options.pop("text_column", "text"), str(options.pop("label_column", "label"))
    layout = Layout(command_line=True, **options)
    pairs, _ = labelled_texts(path, text, label, layout)
    assert list(pairs()) == expected
    table = open_table(path, layout, text)
    assert [text for text, _ in table.texts(text)] == [text for text, _ in expected]
    assert len([row for _, row in table.rows()]) == table.count == len(ROWS)


@pytest.mark.parametrize("names", [("polarity.pos", "polarity.neg"), ("pos.txt", "neg.txt")])
def test_a_file_of_lines_for_each_class(tmp_path, names):
    """As the film sentences of Pang and Lee: the class is the file's ending, or its name."""
    folder = tmp_path / "lines"
    folder.mkdir()
    for name, texts in zip(names, (GOOD, BAD), strict=True):
        (folder / name).write_bytes("".join(f"{text} café \r\n\r\n" for text in texts).encode("cp1252"))
    expected = [(f"{text} café ", "neg") for text in BAD] + [(f"{text} café ", "pos") for text in GOOD]
    task = TextClassification(data_dir=str(folder), encoding="cp1252")
    _, documents = task.read_own()
    assert list(zip(documents.texts, documents.labels, strict=True)) == expected
    assert documents.notes == [f"empty lines skipped: {len(expected)}"]
    pairs, _ = labelled_texts(folder, "text", "label", Layout(encoding="cp1252", command_line=True))
    assert list(pairs()) == expected


def test_files_of_lines_in_splits(tmp_path):
    for split, part in (("train", slice(0, 8)), ("dev", slice(8, 10)), ("test", slice(10, 12))):
        (tmp_path / "x" / split).mkdir(parents=True)
        for label, texts in (("pos", GOOD), ("neg", BAD)):
            (tmp_path / "x" / split / f"{label}.txt").write_text("\n".join(texts[part]), "utf-8")
    rows = rows_of(TextClassification(data_dir=str(tmp_path / "x")))
    assert {text for split, label, text in rows if (split, label) == ("train", "pos")} == set(GOOD[:8])
    assert {text for split, label, text in rows if (split, label) == ("valid", "neg")} == set(BAD[8:10])


def test_replaced_characters_of_a_folder_are_counted_once(tmp_path):
    for label, texts in (("pos", GOOD), ("neg", BAD)):
        (tmp_path / "x" / label).mkdir(parents=True)
        for i, text in enumerate(texts):
            (tmp_path / "x" / label / f"{i}.txt").write_bytes(f"{text} café".encode("latin-1"))
    task = TextClassification(data_dir=str(tmp_path / "x"), encoding_errors="replace")
    task.splits()
    assert f"characters that are not UTF-8, shown as \ufffd: {len(GOOD) + len(BAD)}" in task.notes
    path = tmp_path / "x.csv"
    path.write_bytes(b"text,label\n" + b"".join(f"{t} caf\xe9,{lab}\n".encode("latin-1") for t, lab in ROWS))
    task = TextClassification(data=str(path), encoding_errors="replace")
    task.splits()
    assert f"characters that are not UTF-8, shown as \ufffd: {len(ROWS)}" in task.notes
    layout = replace(Layout(errors="replace"), command_line=True)
    _, notes = labelled_texts(path, "text", "label", layout)
    assert f"characters that are not UTF-8, shown as \ufffd: {len(ROWS)}" in notes


TABLES = pytest.mark.parametrize(("module", "name"), [("pyarrow", "x.parquet"), ("openpyxl", "x.xlsx")])


@TABLES
def test_without_its_package_a_file_is_refused_in_one_line(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"needs {module}: pip install \"seqlab\[tables\]\"$"):
        TextClassification(data=str(tmp_path / name)).splits()


@TABLES
def test_a_damaged_file_is_refused_in_one_line(tmp_path, module, name):
    pytest.importorskip(module)
    (tmp_path / name).write_bytes(b"PAR1 no table PK")
    with pytest.raises(ValueError, match=r"x\.\w+ cannot be read as") as caught:
        TextClassification(data=str(tmp_path / name)).splits()
    assert "\n" not in str(caught.value)


def test_values_of_parquet_are_kept_as_text_and_numbers(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from datetime import date

    from pyarrow import parquet

    values = {"text": ["a", None], "n": [1.5, float("nan")], "day": [date(2026, 1, 2), None], "tags": [["x"], []]}
    parquet.write_table(pyarrow.table(values), tmp_path / "x.parquet")
    table = open_table(tmp_path / "x.parquet", text="text")
    assert [row for _, row in table.rows()] == [
        {"text": "a", "n": 1.5, "day": "2026-01-02", "tags": ["x"]},
        {"text": None, "n": None, "day": None, "tags": []},
    ]
    assert [text for text, _ in table.texts("text")] == ["a", ""]  # as many answers as rows


def test_cells_of_a_sheet_are_texts_and_rows_are_named(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label", "id"], ["a", 1, 7], [], [12, True, 0.5], ["b", 2.0, None, "more"]):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    with pytest.raises(ValueError, match=r"row 5 has 4 columns, and the header 3"):
        TextClassification(data=str(tmp_path / "x.xlsx")).splits()
    book.active.delete_cols(4)
    book.save(tmp_path / "x.xlsx")
    rows = [row for _, row in open_table(tmp_path / "x.xlsx").rows()]
    assert rows == [
        {"text": "a", "label": "1", "id": "7"},
        {"text": "12", "label": "true", "id": "0.5"},
        {"text": "b", "label": "2", "id": ""},
    ]
    book.active.delete_rows(1)
    book.active.cell(1, 3).value = None
    book.save(tmp_path / "x.xlsx")
    table = open_table(tmp_path / "x.xlsx", Layout(header="none", command_line=True), text="1")
    assert [(row["1"], row["3"]) for _, row in table.rows()] == [("a", ""), ("12", "0.5"), ("b", "")]
