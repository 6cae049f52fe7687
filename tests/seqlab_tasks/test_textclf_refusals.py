"""Text classification on files that cannot be read: one clear line each."""

import os
from pathlib import Path

import pytest

from seqlab_tasks.textclf import TextClassification

from .own_texts import BAD, GOOD, table, tree

HEAD = b"text,label\n"
LINES = b"".join(f"{text},{text[2]}\n".encode() for text in [*GOOD, *BAD])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"\xef\xbb\xbf\n \n", "is empty"),
        ("x.csv", HEAD, "has a header, and no rows"),
        ("x.csv", b"review,stars\ngood,5\n", r"has no column 'text'; there are review, stars. Set task.text_column"),
        ("x.csv", b"text,stars\ngood,5\n", r"has no column 'label'; there are text, stars"),
        ("x.csv", b"text,text,label\na,b,c\n", r"has several columns 'text'; there must be one"),
        ("x.csv", b"text;label\na;b\n", r"has no column 'text'; there are text;label"),
        ("x.csv", HEAD + b"good,pos\nbad, really,neg\n", r"line 3 has 3 columns, and the header 2; .* in quotes"),
        ("x.csv", HEAD + b'good,pos\n"bad,neg\n', r"line 3: unexpected end of data; a quote within quotes"),
        ("x.csv", HEAD + b'"a"b,neg\n', r"line 2: .*; a quote within quotes"),
        ("x.csv", HEAD + b"good,\nbad,neg\n", r"line 2: label is empty; each text needs a label"),
        ("x.csv", HEAD + b"a,pos\nb,pos\nc,pos\n", r"all texts are of one class, 'pos'; there must be at least 2"),
        ("x.csv", HEAD + b"a,pos\n,neg\n", r"all texts are of one class, 'pos'"),
        ("x.csv", HEAD + b" ,pos\n,neg\n", r"holds no texts"),
        ("x.csv", HEAD + LINES + b"x,odd\ny,odd\n", r"the label 'odd' has 2 different texts; at least 3 are needed"),
        ("x.csv", HEAD + b"caf\xe9,pos\n", r"byte 14 is not UTF-8 \(0xe9\). .* set task.encoding_errors=replace"),
        ("x.csv", HEAD + b"a\0b,pos\n", r"byte 12 is zero, as in UTF-16"),
        ("x.csv", "text,label\na,b\n".encode("utf-16"), r"byte 3 is zero, as in UTF-16"),
        ("x.xlsx", b"PK", r"it must end in .csv, .tsv, .tab, .jsonl, .ndjson"),
        ("x.jsonl", b'{"text": "a", "label": "b"}\n{"text": "a"\n', r"line 2 is not valid JSON: Expecting"),
        ("x.jsonl", b'["a", "b"]\n', r"line 1 is not an object with columns"),
        ("x.jsonl", b'\n{"review": "a", "label": "b"}\n', r"line 2 has no column 'text'; there are review, label"),
        ("x.jsonl", b'{"text": 7, "label": "b"}\n', r"line 1: text must be a string, got 7"),
        ("x.jsonl", b'{"text": "a", "label": null}\n', r"line 1: label must be a string, got null"),
        ("x.jsonl", b'{"text": "\\ud83d", "label": "b"}\n', r"line 1: text has half a character, '\\ud83d'"),
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
    with pytest.raises(ValueError, match=r"task.data=none.csv: there is no such file"):
        TextClassification(data="none.csv").splits()
    with pytest.raises(ValueError, match=r"task.data_dir=none: there is no such folder"):
        TextClassification(data_dir="none").splits()
    with pytest.raises(ValueError, match=r"holds no folders; there must be one for each class"):
        TextClassification(data_dir=str(tmp_path)).splits()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = Path(table(tmp_path / "x.csv"))
    path.chmod(0)
    with pytest.raises(OSError, match="cannot be read: Permission denied"):
        TextClassification(data=str(path)).splits()


def test_folders_that_cannot_be_read(tmp_path):
    path = tree(tmp_path / "latin", pos=[*GOOD, "ab caf\xe9".encode("latin-1")], neg=BAD)
    with pytest.raises(ValueError, match=r"latin: pos/0012.txt, byte 6 is not UTF-8 \(0xe9\)"):
        TextClassification(data_dir=path).splits()
    path = tree(tmp_path / "zero", pos=GOOD, neg=[b"a\0"])
    with pytest.raises(ValueError, match=r"neg/0000.txt, byte 1 is zero"):
        TextClassification(data_dir=path).splits()
    path = tree(tmp_path / "void", pos=GOOD, neg=[])
    with pytest.raises(ValueError, match=r"the folder neg holds no .txt file"):
        TextClassification(data_dir=path).splits()
    path = tree(tmp_path / "one", pos=GOOD)
    with pytest.raises(ValueError, match=r"all texts are of one class, 'pos'"):
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
        ({"train": BOTH, "valid": {"pos": ["a"]}, "unsup": {"x": ["b"]}}, "unsup stands beside train, but is none of"),
        ({"train": BOTH, "valid": {"pos": ["a"]}, "dev": {"pos": ["b"]}}, "there are several folders for valid"),
        ({"train": {"pos": GOOD}, "test": {"pos": ["a"]}}, "all texts are of one class, 'pos'"),
        (
            {"train": BOTH, "valid": {"pos": ["a"]}, "test": {"pos": GOOD}},
            "all texts of train with the label 'pos' are in",
        ),
    ],
)
def test_splits_that_do_not_go_together(tmp_path, splits, message):
    with pytest.raises(ValueError, match=message):
        TextClassification(data_dir=split_tree(tmp_path / "x", **splits)).splits()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "imdb"}, "source is 'imdb'; it must be one of bundled, ntc_scv"),
        ({"chunks": "all"}, "chunks is 'all'; it must be one of cut, carry"),
        ({"encoding_errors": "ignore"}, "encoding_errors is 'ignore'"),
        ({"data": ""}, "data is empty"),
        ({"data": "x.csv", "data_dir": "x"}, r"data=x.csv and data_dir=x are both set"),
        ({"data": "x.csv", "source": "ntc_scv"}, r"data=x.csv and source=ntc_scv are both set"),
        ({"text_column": "label"}, "text_column and label_column are both 'label'"),
        ({"chunks": "carry", "sequence_length": None}, "chunks is carry, but sequence_length is null"),
        ({"sequence_length": 0}, "sequence_length must be >= 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        TextClassification(**options)
