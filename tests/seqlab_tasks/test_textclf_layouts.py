"""Tables as people publish them: the same rows and labels in training and in ``evaluate``, and what is told of them."""

import json

import pytest

from seqlab import UserError
from seqlab.cli.commands.evaluate import table_columns
from seqlab.io.tables import Layout
from seqlab_tasks.textclf import TextClassification

from .own_texts import BAD, GOOD, rows_of, tree

ROWS = [*((text, "pos") for text in GOOD), *((text, "neg") for text in BAD)]


def lines(separator=",", header="text,label", form="{}", end="\n"):
    rows = [separator.join((form.format(text), label)) for text, label in ROWS]
    return end.join([header, *rows] if header else rows) + end


LAYOUTS = {
    "unquoted.tsv": (lines("\t", "text\tlabel"), {}, GOOD[0]),
    "quotes_are_text.tsv": (lines("\t", "text\tlabel", '"{}" he said, "yes'), {}, f'"{GOOD[0]}" he said, "yes'),
    "quoted.tsv": (lines("\t", '"text"\t"label"', '"{}\tand ""more"""'), {}, f'{GOOD[0]}\tand "more"'),
    "told.tsv": (lines("\t", "text\tlabel", '"{}"'), {"quoting": "standard"}, GOOD[0]),
    "semicolons.csv": (lines(";", "text;label", '"{}; and, more"'), {}, f"{GOOD[0]}; and, more"),
    "several_lines.csv": (lines(form='"{},\ngood, or not\nso, ""so"""'), {}, f'{GOOD[0]},\ngood, or not\nso, "so"'),
    "blanks.csv": (lines(", ", '"text", "label"', '"{}, really"'), {}, f"{GOOD[0]}, really"),
    "no_quotes.csv": (lines(form='"{} 12" pizza'), {"quoting": "none"}, f'"{GOOD[0]} 12" pizza'),
    "windows.csv": (lines(form="{} café", end="\r\n").encode("cp1252"), {"encoding": "cp1252"}, f"{GOOD[0]} café"),
    "wide.csv": (lines(form="{} café").encode("utf-16"), {"encoding": "utf-16"}, f"{GOOD[0]} café"),
    "marks.csv": (("\ufeff\ufeff" + lines()).encode(), {}, GOOD[0]),
    "mac.csv": (lines(end="\r"), {}, GOOD[0]),
    "no_header.tsv": (lines("\t", ""), {"header": "none", "text_column": "1", "label_column": "2"}, GOOD[0]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_has_the_same_rows_everywhere(tmp_path, name):
    data, options, first = LAYOUTS[name]
    options = dict(options)
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    task = TextClassification(data=str(path), **options)
    got = {(text, label) for _, label, text in rows_of(task)}
    expected = {(first.replace(GOOD[0], text), label) for text, label in ROWS}
    assert got == expected
    columns = options.pop("text_column", "text"), options.pop("label_column", "label")
    notes: list[str] = []
    assert set(table_columns(path, *columns, Layout(command_line=True, **options), notes)()) == expected
    assert len(notes) == len(task.notes)


@pytest.mark.parametrize(
    "values", [(1, "2"), (1, 1.0), (True, "false"), (" good", "bad\xa0"), ("e\u0301", "è"), (2.5, -1), ("NaN", "null")]
)
def test_a_label_is_the_same_in_training_and_in_evaluation(tmp_path, values):
    rows = [*((text, values[0]) for text in GOOD), *((text, values[1]) for text in BAD)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8")
    trained = {(text, label) for _, label, text in rows_of(TextClassification(data=str(path)))}
    assert trained == set(table_columns(path, "text", "label")())
    assert len({label for _, label in trained}) == 2


@pytest.mark.parametrize("value", [float("nan"), [1], {"a": 1}])
def test_what_is_no_label_is_refused_in_both(tmp_path, value):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text": "a", "label": value}) + "\n", "utf-8")
    with pytest.raises(ValueError, match=r"x.jsonl, line 1: label must be a string, got"):
        TextClassification(data=str(path)).splits()
    with pytest.raises(UserError, match=r"x.jsonl, line 1: label must be a string, got"):
        table_columns(path, "text", "label")


def test_a_folder_for_each_label_follows_the_rule_as_well(tmp_path):
    folder = tree(tmp_path / "x", **{" pos": GOOD, "neg\xa0": BAD})
    trained = {(text, label) for _, label, text in rows_of(TextClassification(data_dir=folder))}
    assert {label for _, label in trained} == {"pos", "neg"}
    assert trained == set(table_columns(tmp_path / "x", "text", "label")())


def test_every_bad_row_of_a_table_is_in_the_message(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(lines() + "a,b,c\nd\ne,\n" + '"f" g,pos\n' + lines(header=""), "utf-8")
    with pytest.raises(ValueError, match=r"4 rows cannot be read \(2 with another number of columns, 1 ") as caught:
        TextClassification(data=str(path)).splits()
    for said in ("line 26 has 3 columns", "line 27 has 1 column", "line 28: label is empty", "line 29: "):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quoting": "single", "data": "x.tsv"}, "quoting is 'single'; it must be one of auto, none, standard"),
        ({"header": "first", "data": "x.tsv"}, "header is 'first'; it must be one of auto, none"),
        ({"quoting": "none"}, "quoting is none, but data is null"),
        ({"header": "none", "data_dir": "x"}, "header is none, but data is null"),
        ({"encoding": "klingon", "data": "x.tsv"}, "encoding must be a text encoding such as utf-8"),
        ({"encoding": "cp1252"}, "encoding is cp1252, but task.source=bundled is in UTF-8"),
    ],
)
def test_layouts_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        TextClassification(**options)


@pytest.mark.parametrize(("header", "named"), [("Text,label", "Text"), ("te\u200bxt,label", "te\\u200bxt")])
def test_a_column_that_looks_the_same_is_named(tmp_path, header, named):
    path = tmp_path / "x.csv"
    path.write_text(lines(header=header), "utf-8")
    with pytest.raises(ValueError, match=r"has no column 'text'; there are .*differs in capitals") as caught:
        TextClassification(data=str(path)).splits()
    assert f"('{named}' differs" in str(caught.value)


def test_characters_that_were_replaced_are_counted(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(lines(form="{} café").encode("cp1252"))
    task = TextClassification(data=str(path), encoding_errors="replace")
    assert all(text.endswith("caf\ufffd") for _, _, text in rows_of(task))
    assert f"characters that are not UTF-8, shown as \ufffd: {len(ROWS)}" in task.notes
