"""Tables that commands read and write: no field is lost or split, no file half written."""

import csv
import io
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab import UserError
from seqlab.cli.tables import chunks, open_table, read_lines, write_table
from seqlab.io.tables import Layout
from seqlab.io.tables.files import decoding_facts
from seqlab_tasks.own_texts import read_documents

# Any character but lone surrogates, which are none, and the zero byte, which is refused.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ODD_SPACES = "a\x85b\u2028c\u2029d\x0be\x0cf\x1cg"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@given(rows=st.lists(st.fixed_dictionaries({"text": TEXTS, "größe": TEXTS, 'a,\t"b': TEXTS}), min_size=1, max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory, suffix, rows):
    path = tmp_path_factory.mktemp("tables") / f"table{suffix}"
    write_table(path, list(rows[0]), iter(rows))
    table = open_table(path)
    assert table.columns == tuple(rows[0])
    assert table.count == len(rows)
    assert [row for _, row in table.rows()] == rows


@pytest.mark.parametrize("separator", [",", "\t"])
def test_pythons_own_csv_agrees(tmp_path, separator):
    path = tmp_path / ("t.csv" if separator == "," else "t.tsv")
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows([["text", "n"], ["one\r\ntwo\rthree\n", '"'], [ODD_SPACES, " "]])
    path.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode("utf-8"))
    rows = [row for _, row in open_table(path).rows()]
    assert rows == [{"text": "one\r\ntwo\rthree\n", "n": '"'}, {"text": ODD_SPACES, "n": " "}]


def test_json_lines_may_differ_in_their_columns(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes('\ufeff{"text": "\u2028", "n": [1]}\r\n\n{"text": "", "more": null}'.encode())
    table = open_table(path)
    assert table.columns == ("text", "n", "more")
    assert list(table.texts("text")) == [("\u2028", {"text": "\u2028", "n": [1]}), ("", {"text": "", "more": None})]
    write_table(tmp_path / "t.csv", table.columns, (row for _, row in table.rows()))
    assert (tmp_path / "t.csv").read_bytes().decode() == "text,n,more\r\n\u2028,[1],\r\n,,\r\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.csv", b"", "t.csv is empty"),
        ("t.csv", b"text,label\n", "t.csv has a header, but no rows"),
        ("t.csv", b"sep=;\ntext;label\na;good\n", "line 1, 'sep=;', is for Excel: remove it"),
        ("t.csv", b"text\nPe\xf1a\n", r"t.csv, line 2: byte 7 is not UTF-8 \(0xf1\); save it as UTF-8"),
        ("t.txt", b"a\n", "must end in .csv, .tsv, .tab, .jsonl, .ndjson"),
        ("t.jsonl", b'{"text": "\\ud800"}\n', r"line 1 has half a character, '\\ud800'"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        open_table(tmp_path / name, text="text")
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_or_holds_no_text(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "n": 1}\n{"text": 3}\n', "utf-8")
    table = open_table(path)
    with pytest.raises(UserError, match=r"t.jsonl has no column 'review'; there are text, n"):
        table.require("review")
    with pytest.raises(UserError, match=r"line 2: text must be a text, got 3"):
        list(table.texts("text"))
    with pytest.raises(UserError, match=r"line 1: n must be a text, got 1"):
        list(table.texts("n"))


@given(before=st.text(st.sampled_from("aé€😀"), max_size=9), cut=st.sampled_from(["\xe9", "€"]))
def test_the_place_of_a_wrong_byte_does_not_depend_on_the_pieces(tmp_path_factory, before, cut):
    """A character may be cut by the end of a piece, and by the end of the file."""
    path = tmp_path_factory.mktemp("bytes") / "t"
    path.write_bytes(before.encode() + cut.encode()[:-1])
    with pytest.MonkeyPatch.context() as patch:
        for size in (1, 2, 3, 4, 100):
            patch.setattr("seqlab.io.tables.files._PIECE", size)
            with pytest.raises(ValueError, match=f"line 1: byte {len(before.encode())} is not UTF-8"):
                decoding_facts(path, "here", Layout())


def test_a_failure_leaves_no_file_and_the_old_one_as_it_was(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("old", "utf-8")

    def rows():
        yield {"text": "a"}
        raise UserError("no more")

    with pytest.raises(UserError):
        write_table(path, ["text"], rows())
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    assert path.read_text("utf-8") == "old"


def test_lines_of_a_pipe_come_as_soon_as_they_are_there():
    """The second line is only written once the first one was read."""
    reading, writing = os.pipe()
    first_was_read = threading.Event()

    def write():
        os.write(writing, "\ufeffone\r\ntw".encode())
        assert first_was_read.wait(10)
        os.write(writing, "o\u2028\nthrée".encode())
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    with os.fdopen(reading, "rb") as stream:
        for lines in read_lines(stream, "stdin"):
            seen.append(lines)
            first_was_read.set()
    writer.join()
    assert seen == [["one"], ["two\u2028"], ["thrée"]]


@given(lines=st.lists(TEXTS.map(lambda text: text.replace("\n", "").rstrip("\r")), max_size=6), size=st.integers(1, 9))
def test_lines_of_a_pipe_are_whole(lines, size):
    class Small(io.BytesIO):
        def read1(self, most=-1):
            return super().read1(size)

    data = "".join(f"{line}\n" for line in lines)
    got = [line for part in read_lines(Small(data.encode()), "stdin") for line in part]
    if lines:
        lines = [lines[0].lstrip("\ufeff"), *lines[1:]]
    assert got == lines


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_carriage_returns_end_the_lines_of_a_pipe_without_newlines(end):
    data = "".join(f"{line}{end}" for line in ["one", "two", "three"]).encode()
    got = [line for part in read_lines(io.BytesIO(data), "stdin") for line in part]
    assert [line for line in got if line] == ["one", "two", "three"]


@pytest.mark.parametrize(("bad", "message"), [(b"\xff", r"byte 5 is not UTF-8 \(0xff\)"), (b"\0", "byte 5 is zero")])
def test_a_wrong_byte_of_a_pipe_is_named(bad, message):
    with pytest.raises(UserError, match=f"stdin: {message}"):
        list(read_lines(io.BytesIO(b"ab\ncd" + bad), "stdin"))


@pytest.mark.parametrize(("suffix", "end"), [(".csv", "\r"), (".csv", "\r\r\n"), (".tsv", "\r\r\n")])
def test_line_ends_of_old_and_of_doubled_kind(tmp_path, end, suffix):
    """Spreadsheets for old Macs end lines with CR and put LF into quotes; text mode makes CR CR LF of CR LF."""
    inner = "\n" if end == "\r" else " "
    texts = [f"line one of {number}{inner}line two" for number in range(9)]
    separator = "," if suffix == ".csv" else "\t"
    lines = ["text,label", *(f'"{text}",good{number % 2}' for number, text in enumerate(texts))]
    path = tmp_path / f"table{suffix}"
    path.write_bytes("".join(line.replace(",", separator) + end for line in lines).encode())
    read = open_table(path)
    documents = read_documents(path, "file")
    expected = [f'"{text}"' for text in texts] if suffix == ".tsv" else texts
    assert [row["text"] for _, row in read.rows()] == documents.texts == expected
    assert [row["label"] for _, row in read.rows()] == documents.labels == [f"good{number % 2}" for number in range(9)]


def test_chunks_are_bounded_by_count_and_by_size():
    assert [len(part) for part in chunks(iter(range(5000)), lambda _: 1)] == [4096, 904]
    assert [len(part) for part in chunks(iter(range(5)), lambda _: 2**23)] == [2, 2, 1]
    assert list(chunks(iter(()), len)) == []


def test_json_text_is_what_json_says(tmp_path):
    path = tmp_path / "t.jsonl"
    write_table(path, ["text"], iter([{"text": "Đà Nẵng", "n": None}]))
    assert path.read_text("utf-8") == '{"text": "Đà Nẵng", "n": null}\n'
    assert json.loads(path.read_text("utf-8")) == {"text": "Đà Nẵng", "n": None}
