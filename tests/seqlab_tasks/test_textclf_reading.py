"""Text classification on one's own files: what is read, whole and on the right side."""

import csv
import json
import time
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.textclf import TextClassification
from seqlab_tasks.textclf.documents import key

from .own_texts import BAD, GOOD, json_lines, rows_of, table, texts_of, tree


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
    assert task.notes == ["there is no valid: a tenth of train was dealt out for it"]


def test_copies_are_on_one_side(tmp_path):
    """Capitals, white space and normal form make no other text."""
    rows = [(f"Quán {text}{end}", "pos") for text in GOOD for end in ("", " ")]
    rows += [(f"qua\u0301n  {text.upper()}", "neg") for text in GOOD[:4]] + [(text, "neg") for text in BAD]
    task = TextClassification(data=table(tmp_path / "x.csv", rows))
    homes = defaultdict(set)
    for split, _, text in rows_of(task):
        homes[key(text)].add(split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert task.notes == ["texts that are copies of others: 16", "texts with several labels: 4"]


def test_what_test_has_is_taken_out_of_train(tmp_path):
    tree(tmp_path / "x" / "train", pos=[*GOOD, "both", "BOTH "], neg=[*BAD, "valid too"])
    tree(tmp_path / "x" / "valid", pos=["a", "both"], neg=["b", "valid too"])
    tree(tmp_path / "x" / "test", pos=["c", "both"], neg=["d"])
    task = TextClassification(data_dir=str(tmp_path / "x"))
    rows = rows_of(task)
    assert [split for split, _, text in rows if key(text) == "both"] == ["test"]
    assert [split for split, _, text in rows if text == "valid too"] == ["valid"]
    assert task.notes == [
        "texts that are copies of others: 4",
        "taken out of valid, as test has them too: 1 texts",
        "taken out of train, as valid or test has them too: 3 texts",
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_texts_stay_whole(tmp_path, kind):
    """No line break but the newline ends a line, and within quotes not even that one does."""
    odd = ["a\u0085b", "c\u2028d", "e\u2029f", "g\x0bh", "i\x1cj", "k\nl\n\nm", 'n "o", p', "q\r\nr", " s\t"]
    rows = [*((text, "pos") for text in [*odd, *GOOD]), *((text, "neg") for text in BAD)]
    if kind == "csv":
        task = TextClassification(data=table(tmp_path / "x.csv", rows))
    elif kind == "jsonl":
        path = json_lines(tmp_path / "x.jsonl", [{"text": text, "label": label} for text, label in rows])
        task = TextClassification(data=path)
    else:
        task = TextClassification(data_dir=tree(tmp_path / "x", pos=[*odd, *GOOD], neg=BAD))
    assert texts_of(task) == {text for text, _ in rows}


@given(texts=st.lists(st.text().filter(lambda text: text.strip() and "\0" not in text), min_size=3, unique_by=key))
def test_any_text_comes_through_a_table_unchanged(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("any")
    rows = [*((text, "pos") for text in texts), *((f"{text} not", "neg") for text in texts)]
    expected = {text for text, _ in rows}
    try:
        csv_path = table(folder / "x.csv", rows)
    except UnicodeEncodeError:  # a lone surrogate cannot be written as UTF-8
        return
    assert texts_of(TextClassification(data=csv_path)) == expected
    jsonl = json_lines(folder / "x.jsonl", [{"text": text, "label": label} for text, label in rows])
    assert texts_of(TextClassification(data=jsonl)) == expected


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_a_byte_order_mark_is_no_text(tmp_path, kind):
    if kind == "txt":
        path = tree(tmp_path / "x", pos=[b"\xef\xbb\xbf" + text.encode() for text in GOOD], neg=BAD)
        assert texts_of(TextClassification(data_dir=path)) == {*GOOD, *BAD}
        return
    path = tmp_path / f"x.{kind}"
    if kind == "csv":
        table(path)
    else:
        json_lines(path, [{"text": text, "label": text[2]} for text in [*GOOD, *BAD]])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert texts_of(TextClassification(data=str(path))) == {*GOOD, *BAD}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_a_line_of_ten_megabytes(tmp_path, kind):
    """Beyond the csv module's own limit, which stays what it was for everybody else."""
    limit = csv.field_size_limit()
    huge = "rất dài " * 1_000_000
    rows = [(huge, "pos"), *((text, "pos") for text in GOOD), *((text, "neg") for text in BAD)]
    since = time.perf_counter()
    if kind == "csv":
        task = TextClassification(data=table(tmp_path / "x.csv", rows))
    elif kind == "jsonl":
        task = TextClassification(data=json_lines(tmp_path / "x.jsonl", [{"text": a, "label": b} for a, b in rows]))
    else:
        task = TextClassification(data_dir=tree(tmp_path / "x", pos=[huge, *GOOD], neg=BAD))
    assert huge in texts_of(task)
    assert time.perf_counter() - since < 20
    assert csv.field_size_limit() == limit


def test_texts_of_blanks_are_left_out_and_counted(tmp_path):
    rows = [("  \n", "pos"), ("\u00a0", "neg"), *((text, "pos") for text in GOOD), *((text, "neg") for text in BAD)]
    task = TextClassification(data=table(tmp_path / "x.csv", rows))
    assert texts_of(task) == {*GOOD, *BAD}
    assert task.notes == ["texts of blanks alone, left out: 2"]


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
