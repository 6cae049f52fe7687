"""``predict`` on texts, on a table and from a pipe."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest

import seqlab
from seqlab.cli.tables import open_table

NAMES = ["Banana", "Bonobo", "Nebele"]
TONGUES = ["Aaish", "Ooish", "Eeish"]


@pytest.fixture
def pipe(monkeypatch):
    """Put bytes where the next command reads stdin."""

    def put(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


def read(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_texts_of_the_command_line(cli, tongues):
    shown = cli("predict", str(tongues), *NAMES)
    assert shown.code == 0
    for name, tongue in zip(NAMES, TONGUES, strict=True):
        assert any(name in line and tongue in line for line in shown.out.split("\n"))
    many = cli("predict", str(tongues), *NAMES, "--top", "9").out
    assert f"{len(TONGUES)}." in many
    assert f"{len(TONGUES) + 1}." not in many
    lines = cli("predict", str(tongues), *NAMES, "--json", "--top", "2").out.strip().split("\n")
    assert [json.loads(line)["text"] for line in lines] == NAMES
    assert [json.loads(line)["predictions"][0]["label"] for line in lines] == TONGUES
    assert all(len(json.loads(line)["predictions"]) == 2 for line in lines)


def test_a_table_keeps_its_columns_and_gets_two(cli, tongues):
    """The figures are those of ``seqlab.load``."""
    rows = [["1", "Banana", 'a "b",\n c'], ["2", "Bonobo", "\u2028"], ["3", "", ""], ["4", "Nebele", "d"]]
    with Path("in.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "name", "note"], *rows])
    done = cli("predict", str(tongues), "--input", "in.csv", "--column", "name", "--output", "deep/out.csv")
    assert done.code == 0, done.err
    assert "deep/out.csv: 4 rows, with the columns label and probability added" in done.out
    assert "empty texts after preprocessing, without a label: 1" in done.err
    got = read("deep/out.csv")
    assert [[row["id"], row["name"], row["note"]] for row in got] == rows
    assert [row["label"] for row in got] == ["Aaish", "Ooish", "", "Eeish"]
    assert got[2]["probability"] == ""
    expected = seqlab.load(tongues).predict(NAMES, top=1)
    for row, (answer,) in zip([got[0], got[1], got[3]], expected, strict=True):
        assert float(row["probability"]) == pytest.approx(answer["probability"], abs=1e-5)


def test_columns_of_the_same_name_stay(cli, tongues):
    Path("in.tsv").write_text("text\tlabel\nBanana\tmine\n", "utf-8")
    done = cli("predict", str(tongues), "--input", "in.tsv", "--output", "out.jsonl")
    assert "the new columns are predicted_label, predicted_probability" in done.err
    (row,) = (json.loads(line) for line in Path("out.jsonl").read_text("utf-8").strip().split("\n"))
    assert row.pop("predicted_probability") > 0.5
    assert row == {"text": "Banana", "label": "mine", "predicted_label": "Aaish"}
    Path("in.tsv").write_text("text\tlabel\tpredicted_label\nBanana\tmine\tyours\n", "utf-8")
    cli("predict", str(tongues), "--input", "in.tsv", "--output", "out.csv").refused("rename them")
    assert not Path("out.csv").exists()


def test_many_rows_keep_their_order(cli, tongues, monkeypatch):
    """More than one chunk, with texts of all lengths mixed."""
    texts = [NAMES[row % 3][: 2 + row % 5] for row in range(5000)]
    Path("in.jsonl").write_text(
        "".join(json.dumps({"text": text, "row": row}) + "\n" for row, text in enumerate(texts))
    )
    assert cli("predict", str(tongues), "--input", "in.jsonl", "--output", "out.jsonl").code == 0
    got = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").strip().split("\n")]
    assert [row["row"] for row in got] == list(range(5000))
    alone = {text: answer[0]["label"] for text, answer in zip(texts, seqlab.load(tongues).predict(texts), strict=True)}
    assert all(row["label"] == alone[row["text"]] for row in got)


def test_an_existing_output_is_kept(cli, tongues):
    Path("in.csv").write_text("text\nBanana\n", "utf-8")
    Path("out.csv").write_text("precious", "utf-8")
    arguments = ["predict", str(tongues), "--input", "in.csv", "--output", "out.csv"]
    cli(*arguments).refused("out.csv is there already", "--force")
    assert Path("out.csv").read_text("utf-8") == "precious"
    assert cli(*arguments, "--force").code == 0
    assert read("out.csv")[0]["label"] == "Aaish"


def test_a_bad_row_leaves_no_output(cli, tongues):
    Path("in.jsonl").write_text('{"text": "Banana"}\n{"text": 7}\n', "utf-8")
    cli("predict", str(tongues), "--input", "in.jsonl", "--output", "out.csv").refused(
        "line 2: text must be a text, got 7"
    )
    assert not list(Path().glob("*out.csv*"))


def test_a_pipe_is_answered_line_by_line(cli, tongues, pipe):
    pipe("\ufeffBanana\r\n\nBonobo\tB\n  \nNebele".encode())
    done = cli("predict", str(tongues), "--top", "1")
    lines = [line.split("\t") for line in done.out.strip().split("\n")]
    assert [line[:2] for line in lines] == [["Banana", "Aaish"], ["Bonobo B", "Ooish"], ["Nebele", "Eeish"]]
    pipe(b"Banana\nBonobo\n")
    lines = cli("predict", str(tongues), "-", "--json").out.strip().split("\n")
    assert [json.loads(line)["text"] for line in lines] == ["Banana", "Bonobo"]


@pytest.mark.parametrize(
    ("data", "fragment"),
    [(b"", "stdin has no text"), (b" \n", "stdin has no text"), (b"Banana\n\xff", "stdin: byte 7 is not UTF-8")],
)
def test_a_pipe_without_texts(cli, tongues, pipe, data, fragment):
    pipe(data)
    cli("predict", str(tongues)).refused(fragment)


def test_stdin_of_a_terminal_is_not_read(cli, tongues, pipe, monkeypatch):
    pipe(b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    cli("predict", str(tongues)).refused("there is nothing to predict: give TEXT")


def test_a_long_text_has_a_batch_of_its_own(tongues, monkeypatch):
    """Answers do not depend on the other texts."""
    monkeypatch.setattr("seqlab.inference._MAX_STEPS", 500)
    trained = seqlab.load(tongues)
    texts = ["Banana" * 100, *NAMES, *(["Bonobo" * 50] * 2)]
    shapes = [tuple(batch.inputs.shape) for _, batch, _ in trained.outputs(trained.encode(texts))]
    assert shapes == [(3, 6), (1, 300), (1, 300), (1, 600)]
    together = trained.predict(texts, top=1)
    assert [answer[0]["label"] for answer in together[1:4]] == TONGUES
    assert together[4] == together[5]
    assert trained.predict(texts[:1], top=1) == together[:1]


def test_a_quote_joins_no_rows_and_a_table_of_tabs_stays_one(cli, tongues):
    """As many rows as lines, quotes and all."""
    texts = ['"Banana', "Bonobo", 'Nebele"', '"Lalala"', 'Ba "na" na']
    Path("in.tsv").write_text("text\tn\n" + "".join(f"{text}\t{row}\n" for row, text in enumerate(texts)), "utf-8")
    done = cli("predict", str(tongues), "--input", "in.tsv", "--output", "out.tsv")
    assert done.code == 0, done.err
    assert "out.tsv: 5 rows" in done.out
    lines = [line.split("\t") for line in Path("out.tsv").read_text("utf-8").split("\n")]
    assert lines[0] == ["text", "n", "label", "probability"]
    assert [line[:2] for line in lines[1:-1]] == [[text, str(row)] for row, text in enumerate(texts)]
    assert cli("predict", str(tongues), "--input", "out.tsv", "--output", "again.jsonl").code == 0
    again = [json.loads(line) for line in Path("again.jsonl").read_text("utf-8").strip().split("\n")]
    assert [row["text"] for row in again] == texts
    comma = Path("in.tsv").read_text("utf-8").replace("\t", ",")
    Path("in.csv").write_text(comma, "utf-8")
    cli("predict", str(tongues), "--input", "in.csv", "--output", "out.csv").refused(
        "lines 2 to 4", "add --quoting none"
    )
    assert not Path("out.csv").exists()
    done = cli("predict", str(tongues), "--input", "in.csv", "--quoting", "none", "--output", "out.csv")
    assert [row["text"] for row in read("out.csv")] == texts
    done = cli("predict", str(tongues), "--input", "in.csv", "--quoting", "standard", "--output", "two.csv")
    assert "lines 2 to 4" in done.err


def test_texts_with_tabs_are_quoted_in_tables_of_tabs(cli, tongues):
    for name, rows in (("n", [["Bana\nna", "1"], ["Bono\tbo", "2"]]), ("a\tb", [["Banana", "1"]])):
        with Path("in.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text", name], *rows])
        done = cli("predict", str(tongues), "--input", "in.csv", "--output", "out.tsv", "--force")
        assert "out.tsv: texts with tabs or line ends are in quotes" in done.err
        with Path("out.tsv").open(encoding="utf-8", newline="") as file:
            assert [row[:2] for row in csv.reader(file, delimiter="\t")] == [["text", name], *rows]
        assert [list(row.values())[:2] for _, row in open_table(Path("out.tsv")).rows()] == rows


def test_columns_by_number_and_another_encoding(cli, tongues):
    Path("in.tsv").write_bytes("Banana\té\nBonobo\tè\n".encode("cp1252"))
    options = ["--input", "in.tsv", "--header", "none", "--column", "1", "--output", "out.csv"]
    cli("predict", str(tongues), *options).refused("byte 7 is not UTF-8", "add --encoding cp1252 (which reads")
    assert cli("predict", str(tongues), *options, "--encoding", "cp1252").code == 0
    assert [(row["1"], row["2"]) for row in read("out.csv")] == [("Banana", "é"), ("Bonobo", "è")]
    options[-1] = "other.csv"
    cli("predict", str(tongues), *options, "--encoding", "klingon").refused("--encoding must be a text encoding")
    cli("predict", str(tongues), "Banana", "--quoting", "none").refused("go with --input FILE")
    cli("predict", str(tongues), "Banana", "--column", "name").refused("--column goes with --input FILE")


def test_blank_lines_of_a_pipe_are_counted(cli, tongues, pipe):
    pipe(b"Banana\n\nBonobo\n \n")
    done = cli("predict", str(tongues))
    assert len(done.out.strip().split("\n")) == 2
    assert "blank lines skipped: 2" in done.err
