"""Tables and folders of texts: layouts, splits, encodings, and messages about bad files."""

import csv
import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab import UserError
from seqlab.cli.commands.evaluate import labelled_texts
from seqlab.io.tables import Layout
from seqlab_tasks.splitting import key
from seqlab_tasks.textclf import TextClassification

from .own_texts import BAD, GOOD, json_lines, rows_of, table, texts_of, tree

ROWS = [*((text, "pos") for text in GOOD), *((text, "neg") for text in BAD)]
every_kind = pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])


def task_of(kind, folder, rows, **options):
    """The task of a file, or of a folder, with these texts and labels."""
    if kind == "csv":
        return TextClassification(data=table(folder / "x.csv", rows), **options)
    if kind == "jsonl":
        path = json_lines(folder / "x.jsonl", [{"text": text, "label": label} for text, label in rows])
        return TextClassification(data=path, **options)
    texts = {label: [text for text, other in rows if other == label] for _, label in rows}
    return TextClassification(data_dir=tree(folder / "x", **texts), **options)


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t"), ("CSV", ",")])
def test_a_table(tmp_path, suffix, delimiter):
    task = TextClassification(data=table(tmp_path / f"x.{suffix}", delimiter=delimiter))
    assert texts_of(task) == {*GOOD, *BAD}
    assert task.labels == ("neg", "pos")


def test_json_lines_with_other_names_and_labels_that_are_no_texts(tmp_path):
    for labels, shown in (((1, 5), ("1", "5")), ((False, True), ("false", "true"))):
        rows = [
            *({"review": text, "stars": labels[1]} for text in GOOD),
            *({"review": text, "stars": labels[0]} for text in BAD),
        ]
        path = json_lines(tmp_path / "x.jsonl", rows)
        task = TextClassification(data=path, text_column="review", label_column="stars")
        assert texts_of(task) == {*GOOD, *BAD}
        assert task.labels == shown


def test_folders(tmp_path):
    path = tree(tmp_path / "x", pos=GOOD, neg=BAD)
    (tmp_path / "x" / "pos" / ".hidden.txt").write_text("no")
    (tmp_path / "x" / "pos" / "notes.md").write_text("no")
    (tmp_path / "x" / "README.txt").write_text("no")
    assert texts_of(TextClassification(data_dir=path)) == {*GOOD, *BAD}


def test_folders_with_splits(tmp_path):
    for split, part in (("train", slice(0, 8)), ("dev", slice(8, 10)), ("test", slice(10, 12))):
        tree(tmp_path / "x" / split, pos=GOOD[part], neg=BAD[part])
    rows = rows_of(TextClassification(data_dir=str(tmp_path / "x")))
    parts = {"train": GOOD[:8], "valid": GOOD[8:10], "test": GOOD[10:]}
    for split, texts in parts.items():
        assert {text for home, label, text in rows if (home, label) == (split, "pos")} == set(texts)


def test_without_valid_a_tenth_of_train_is_taken(tmp_path):
    more = [f"{text} {number}" for text in GOOD for number in range(5)]
    tree(tmp_path / "x" / "train", pos=more, neg=[text.replace("liked", "hated") for text in more])
    tree(tmp_path / "x" / "test", pos=GOOD, neg=BAD)
    task = TextClassification(data_dir=str(tmp_path / "x"))
    assert Counter(split for split, _, _ in rows_of(task)) == {"train": 108, "valid": 12, "test": 24}
    assert task.notes == ["the source has no valid split: a tenth of train is used"]


def test_copies_are_on_one_side(tmp_path):
    """Texts that differ in capitals, white space or normal form are copies."""
    rows = [(f"Quán {text}{end}", "pos") for text in GOOD for end in ("", " ")]
    rows += [(f"qua\u0301n  {text.upper()}", "neg") for text in GOOD[:4]] + [(text, "neg") for text in BAD]
    task = TextClassification(data=table(tmp_path / "x.csv", rows))
    homes = defaultdict(set)
    for split, _, text in rows_of(task):
        homes[key(text)].add(split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert task.notes == ["duplicate texts: 16", "texts with several labels: 4"]


def test_texts_of_test_are_removed_from_train(tmp_path):
    tree(tmp_path / "x" / "train", pos=[*GOOD, "both", "BOTH "], neg=[*BAD, "valid too"])
    tree(tmp_path / "x" / "valid", pos=["a", "both"], neg=["b", "valid too"])
    tree(tmp_path / "x" / "test", pos=["c", "both"], neg=["d"])
    task = TextClassification(data_dir=str(tmp_path / "x"))
    rows = rows_of(task)
    assert [split for split, _, text in rows if key(text) == "both"] == ["test"]
    assert [split for split, _, text in rows if text == "valid too"] == ["valid"]
    assert task.notes == [
        "duplicate texts: 4",
        "texts removed from valid that also occur in test: 1",
        "texts removed from train that also occur in valid or test: 3",
    ]


@every_kind
def test_texts_stay_whole(tmp_path, kind):
    """Only a newline ends a line, and not within quotes."""
    odd = ["a\u0085b", "c\u2028d", "e\u2029f", "g\x0bh", "i\x1cj", "k\nl\n\nm", 'n "o", p', "q\r\nr", " s\t"]
    rows = [*((text, "pos") for text in odd), *ROWS]
    assert texts_of(task_of(kind, tmp_path, rows)) == {text for text, _ in rows}


@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0")).filter(str.strip), min_size=3, unique_by=key
    )
)
def test_any_text_comes_through_a_table_unchanged(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("any")
    rows = [*((text, "pos") for text in texts), *((f"{text} not", "neg") for text in texts)]
    for kind in ("csv", "jsonl"):
        assert texts_of(task_of(kind, folder, rows)) == {text for text, _ in rows}


@every_kind
def test_byte_order_marks_are_removed(tmp_path, kind):
    task = task_of(kind, tmp_path, ROWS)
    for path in tmp_path.rglob("*.*"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert texts_of(task) == {*GOOD, *BAD}


@every_kind
def test_a_line_of_ten_megabytes(tmp_path, kind):
    """Above the limit of the csv module, which is not changed."""
    limit = csv.field_size_limit()
    huge = "rất dài " * 1_000_000
    assert huge in texts_of(task_of(kind, tmp_path, [(huge, "pos"), *ROWS]))
    assert csv.field_size_limit() == limit


def test_empty_texts_are_skipped_and_counted(tmp_path):
    task = task_of("csv", tmp_path, [("  \n", "pos"), ("\u00a0", "neg"), *ROWS])
    assert texts_of(task) == {*GOOD, *BAD}
    assert task.notes == ["empty texts skipped: 2"]


def test_replacing_what_is_not_utf8(tmp_path):
    path = tree(tmp_path / "x", pos=["caf\xe9".encode("latin-1"), *GOOD], neg=BAD)
    assert "caf\ufffd" in texts_of(TextClassification(data_dir=path, encoding_errors="replace"))
    lone = tmp_path / "x.jsonl"
    lines = [
        '{"text": "a \\ud83d b", "label": "pos"}',
        *(json.dumps({"text": t, "label": t[2]}) for t in [*GOOD, *BAD]),
    ]
    lone.write_text("\n".join([*lines, '{"text": "c", "label": "pos"}', '{"text": "d", "label": "pos"}']))
    assert "a \ufffd b" in texts_of(TextClassification(data=str(lone), encoding_errors="replace"))


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
    pairs, notes = labelled_texts(path, *columns, Layout(command_line=True, **options))
    assert set(pairs()) == expected
    assert len(notes) == len(task.notes)


@pytest.mark.parametrize(
    "values", [(1, "2"), (1, 1.0), (True, "false"), (" good", "bad\xa0"), ("e\u0301", "è"), (2.5, -1), ("NaN", "null")]
)
def test_a_label_is_the_same_in_training_and_in_evaluation(tmp_path, values):
    rows = [*((text, values[0]) for text in GOOD), *((text, values[1]) for text in BAD)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8")
    trained = {(text, label) for _, label, text in rows_of(TextClassification(data=str(path)))}
    assert trained == set(labelled_texts(path, "text", "label")[0]())
    assert len({label for _, label in trained}) == 2


@pytest.mark.parametrize("value", [float("nan"), [1], {"a": 1}])
def test_invalid_labels_are_refused_in_both(tmp_path, value):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text": "a", "label": value}) + "\n", "utf-8")
    with pytest.raises(ValueError, match=r"x.jsonl, line 1: label must be a string, got"):
        TextClassification(data=str(path)).splits()
    with pytest.raises(UserError, match=r"x.jsonl, line 1: label must be a string, got"):
        labelled_texts(path, "text", "label")


def test_a_folder_for_each_label_follows_the_rule_as_well(tmp_path):
    folder = tree(tmp_path / "x", **{" pos": GOOD, "neg\xa0": BAD})
    trained = {(text, label) for _, label, text in rows_of(TextClassification(data_dir=folder))}
    assert {label for _, label in trained} == {"pos", "neg"}
    assert trained == set(labelled_texts(tmp_path / "x", "text", "label")[0]())


def test_every_bad_row_of_a_table_is_in_the_message(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(lines() + "a,b,c\nd\ne,\n" + '"f" g,pos\n' + lines(header=""), "utf-8")
    with pytest.raises(ValueError, match=r"4 rows cannot be read \(2 with another number of columns, 1 ") as caught:
        TextClassification(data=str(path)).splits()
    for said in ("line 26 has 3 columns", "line 27 has 1 column", "line 28: label is empty", "line 29: "):
        assert said in str(caught.value)


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


HEAD = b"text,label\n"
LINES = b"".join(f"{text},{text[2]}\n".encode() for text in [*GOOD, *BAD])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"\xef\xbb\xbf\n \n", "is empty"),
        ("x.csv", HEAD, "has a header, but no rows"),
        ("x.csv", b"review,stars\ngood,5\n", r"has no column 'text'; there are review, stars. Set task.text_column"),
        ("x.csv", b"text,stars\ngood,5\n", r"has no column 'label'; there are text, stars"),
        ("x.csv", b"text,text,label\na,b,c\n", r"has several columns 'text'; there must be one"),
        ("x.csv", b"text;label\na;b\n", r"has no column 'text'; there are text;label"),
        ("x.csv", HEAD + b"good,pos\nbad, really,neg\n", r"line 3 has 3 columns, and the header 2; .* in quotes"),
        ("x.csv", HEAD + b'good,pos\n"bad,neg\n', r"line 3: unexpected end of data; a quote within quotes"),
        ("x.csv", HEAD + b'"a"b,neg\n', r"line 2: .*; a quote within quotes"),
        ("x.csv", HEAD + b"good,\nbad,neg\n", r"line 2: label is empty; each text needs a label"),
        ("x.csv", HEAD + b"a,pos\nb,pos\nc,pos\n", r"all texts have one class, 'pos'; at least 2"),
        ("x.csv", HEAD + b"a,pos\n,neg\n", r"all texts have one class, 'pos'"),
        ("x.csv", HEAD + b" ,pos\n,neg\n", r"contains no texts"),
        ("x.csv", HEAD + LINES + b"x,odd\ny,odd\n", r"the label 'odd' has 2 different texts; at least 3 are needed"),
        ("x.csv", HEAD + b"caf\xe9,pos\n", r"byte 14 is not UTF-8 \(0xe9\). .* set task.encoding_errors=replace"),
        ("x.csv", HEAD + b"a\0b,pos\n", r"byte 12 is zero, as in UTF-16"),
        ("x.csv", "text,label\na,b\n".encode("utf-16"), r"byte 3 is zero, as in UTF-16"),
        ("x.xls", b"PK", r"it must end in .csv, .tsv, .tab, .jsonl, .ndjson"),
        ("x.jsonl", b'{"text": "a", "label": "b"}\n{"text": "a"\n', r"line 2 is not valid JSON: Expecting"),
        ("x.jsonl", b'["a", "b"]\n', r"line 1 is not an object with columns"),
        ("x.jsonl", b'\n{"review": "a", "label": "b"}\n', r"line 2 has no column 'text'; columns: review, label"),
        ("x.jsonl", b'{"text": 7, "label": "b"}\n', r"line 1: text must be a text, got 7"),
        ("x.jsonl", b'{"text": "a", "label": null}\n', r"line 1: label must be a string, got null"),
        ("x.jsonl", b'{"text": "\\ud83d", "label": "b"}\n', r"line 1: text has the lone surrogate '\\ud83d'"),
        ("x.jsonl", b"[" * 100_000, r"line 1 is not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        TextClassification(data=str(path)).splits()
    assert str(caught.value).startswith(f"task.data={path}")
    assert "\n" not in str(caught.value)


def test_no_file_and_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"task.data=none.csv: no such file"):
        TextClassification(data="none.csv").splits()
    with pytest.raises(ValueError, match=r"task.data_dir=none: no such folder"):
        TextClassification(data_dir="none").splits()
    with pytest.raises(ValueError, match=r"has no folders; it must have one"):
        TextClassification(data_dir=str(tmp_path)).splits()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = Path(table(tmp_path / "x.csv"))
    path.chmod(0)
    with pytest.raises(OSError, match="cannot be read: Permission denied"):
        TextClassification(data=str(path)).splits()


def test_folders_that_cannot_be_read(tmp_path):
    path = tree(tmp_path / "latin", pos=[*GOOD, "ab caf\xe9".encode("latin-1")], neg=BAD)
    with pytest.raises(ValueError, match=r"latin: pos/0012.txt, line 1: byte 6 is not UTF-8 \(0xe9\)"):
        TextClassification(data_dir=path).splits()
    path = tree(tmp_path / "zero", pos=GOOD, neg=[b"a\0"])
    with pytest.raises(ValueError, match=r"neg/0000.txt, line 1: byte 1 is zero"):
        TextClassification(data_dir=path).splits()
    path = tree(tmp_path / "void", pos=GOOD, neg=[])
    with pytest.raises(ValueError, match=r"the folder neg has no .txt file"):
        TextClassification(data_dir=path).splits()
    path = tree(tmp_path / "one", pos=GOOD)
    with pytest.raises(ValueError, match=r"all texts have one class, 'pos'"):
        TextClassification(data_dir=path).splits()


def split_tree(folder, **splits):
    for split, classes in splits.items():
        tree(folder / split, **classes)
    return str(folder)


BOTH = {"pos": GOOD, "neg": BAD}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": BOTH, "test": {"odd": ["a", "b"], "pos": ["c"]}}, r"'odd' is in test \(2 texts\), but not in train"),
        ({"train": BOTH, "valid": {"odd": ["a"]}, "test": {"pos": ["c"]}}, r"'odd' is in valid \(1 texts\)"),
        ({"train": BOTH, "valid": {"pos": ["a"]}}, "there are texts for train, valid, but none for test"),
        (
            {"train": BOTH, "valid": {"pos": ["a"]}, "unsup": {"x": ["b"]}},
            "folders beside train must be one of train, valid, test, got unsup",
        ),
        ({"train": BOTH, "valid": {"pos": ["a"]}, "dev": {"pos": ["b"]}}, "there are several folders for valid"),
        ({"train": {"pos": GOOD}, "test": {"pos": ["a"]}}, "all texts have one class, 'pos'"),
        (
            {"train": BOTH, "valid": {"pos": ["a"]}, "test": {"pos": GOOD}},
            "all texts of train with the label 'pos' are also in",
        ),
        (
            {"train": BOTH, "valid": {"pos": ["a", "b"]}, "test": {"pos": ["a"], "neg": ["b"]}},
            "all texts of valid are also in test; give valid others, or leave it out to use a tenth of train",
        ),
        ({"train": BOTH, "valid": {"pos": [" "]}, "test": {"pos": ["a"]}}, "all texts of valid are empty; .* or leave"),
        ({"train": BOTH, "valid": {"pos": ["a"]}, "test": {"pos": [" "]}}, "all texts of test are empty; give it oth"),
    ],
)
def test_splits_that_do_not_go_together(tmp_path, splits, message):
    with pytest.raises(ValueError, match=message):
        TextClassification(data_dir=split_tree(tmp_path / "x", **splits)).splits()
