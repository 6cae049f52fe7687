"""Tables: rows as they were written, the inferred format, and rows joined by a quote."""

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.io.tables import Check, Layout, label_of, read_rows

HOSTILE = ["good", "bad", ",", "\n", '"', "word", " ", "\r\n", "\t", ";", "'", "1", "\u2028", "\xa0", "\ufeff", '""']
TEXTS = st.lists(st.sampled_from(HOSTILE), max_size=10).map("".join)
ROWS = st.lists(
    st.fixed_dictionaries({"text": TEXTS, "label": st.sampled_from(["good", "bad"])}), min_size=1, max_size=9
)
ORDERS = st.sampled_from([("text", "label"), ("label", "text"), ("id", "label", "text")])


def rows_of(text, suffix=".csv", label="label", **layout):
    newline = "\n" if "\n" in text or "\r" not in text else "\r"
    found = read_rows(lambda: io.StringIO(text, newline=newline), "file", suffix, Layout(**layout), Check(label=label))
    rows = [row for _, row in found.read()]
    assert len(rows) == found.count
    return found, rows


def written(rows, order, separator=",", end="\n", quoting=csv.QUOTE_MINIMAL):
    file = io.StringIO(newline="")
    table = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    table.writerow(order)
    table.writerows([row[column] for column in order] for row in rows)
    return file.getvalue()


def numbered(rows):
    return [{"id": str(number), **row} for number, row in enumerate(rows)]


@given(ROWS, ORDERS, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_csv_round_trip(rows, order, end, quoting):
    """Any texts, also some whose lines look like rows."""
    rows = numbered(rows)
    text = written(rows, order, end=end, quoting=quoting)
    _, got = rows_of(text)
    assert got == [{column: row[column] for column in order} for row in rows]
    assert got == list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


@given(ROWS, ORDERS)
def test_tsv_round_trip_without_quotes(rows, order):
    """Each line is a row, as ``cut`` and ``wc -l`` count them, whatever quotes stand in it."""
    plain = str.maketrans("\t\n\r", "   ")
    rows = numbered([{**row, "text": row["text"].translate(plain)} for row in rows])
    text = "".join("\t".join(fields) + "\n" for fields in (order, *([row[name] for name in order] for row in rows)))
    _, got = rows_of(text, ".tsv")
    assert got == [{column: row[column] for column in order} for row in rows]


@given(ROWS)
def test_json_lines_round_trip(rows):
    _, got = rows_of("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), ".jsonl")
    assert got == rows


def unquoted_rows(order, first, last, count=30, end="\n", separator=","):
    """Rows without any quoting, where one text begins with a quote and a later one ends with one."""
    lines = [separator.join(order)]
    for number in range(count):
        text = '"' * (number == first) + f"visit {number} was so so" + '"' * (number == last)
        row = {"id": str(number), "text": text, "label": "good" if number % 3 else "bad"}
        lines.append(separator.join(row[column] for column in order))
    return end.join(lines) + end


@given(ORDERS, st.data())
def test_rows_joined_by_a_quote_are_refused_or_noted(order, data):
    first = data.draw(st.integers(0, 28))
    last = data.draw(st.integers(first + 1, 29))
    text = unquoted_rows(order, first, last)
    assert len(list(csv.DictReader(io.StringIO(text)))) == 30 - (last - first)  # well formed, but wrong
    lines = f"lines {first + 2} to {last + 2}"
    if last == first + 1:  # a single line is weak evidence
        assert any(lines in note for note in rows_of(text)[0].notes)
    else:
        with pytest.raises(ValueError, match=rf"{lines}; without quotes all 30 lines are rows: set task\.quoting=none"):
            rows_of(text)
    found, rows = rows_of(text, quoting="none")
    assert found.count == 30
    assert sum(row["text"].startswith('"') for row in rows) == sum(row["text"].endswith('"') for row in rows) == 1
    assert rows_of(text, quoting="standard")[0].count == 30 - (last - first)


def test_joined_rows_are_found_without_a_label_column():
    for order in (("id", "text"), ("label", "text")):
        with pytest.raises(ValueError, match=r"joins 6 rows to 1: lines 5 to 10"):
            rows_of(unquoted_rows(order, 3, 8), label=None)
    found, _ = rows_of(unquoted_rows(("text",), 3, 8), label=None)  # nothing distinguishes rows from lines here
    assert found.count == 25
    assert found.notes == ("rows with a field in quotes that spans several lines: 1; the longest is lines 5 to 10",)


def test_joined_rows_sorted_by_label_are_found():
    lines = ["label,text", 'good,"visit 0', *(f"good,visit {number}" for number in range(1, 9))]
    lines += [*(f"bad,visit {number}" for number in range(9, 18)), 'bad,visit 18"', "worse,visit 19"]
    with pytest.raises(ValueError, match=r"joins 19 rows to 1: lines 2 to 20"):
        rows_of("\n".join(lines) + "\n")


@pytest.mark.parametrize("last", [12, 20])
def test_joined_rows_of_unique_classes_are_noted(last):
    lines = ["class,text", *(f"c{number:02},visit {number:02} was so so" for number in range(30))]
    lines[11], lines[last] = lines[11].replace(",", ',"'), lines[last] + '"'
    found, _ = rows_of("\n".join(lines) + "\n", label="class")
    assert found.count == 30 - (last - 11)
    assert any(f"lines 12 to {last + 1}; if quotes are text here, set task.quoting=none" in n for n in found.notes)


@given(ROWS.filter(lambda rows: len(rows) > 1), ORDERS, st.sampled_from(";|"))
def test_another_separator_is_found_with_texts_of_several_lines(rows, order, separator):
    rows = numbered(rows)
    _, got = rows_of(written(rows, order, separator, quoting=csv.QUOTE_ALL))
    assert got == [{column: row[column] for column in order} for row in rows]


def test_quoted_tsv_is_read_with_quotes_and_noted():
    rows = [{"text": f"one\ttwo\tand\nthree {number}", "label": "good"} for number in range(4)]
    found, got = rows_of(written(rows, ("text", "label"), "\t"), ".tsv")
    assert got == rows
    assert "quotes are read as in CSV" in found.notes[0]
    rows = [{"text": f'he said "{number}"', "label": "good"} for number in range(4)]
    _, got = rows_of(written(rows, ("text", "label"), "\t", quoting=csv.QUOTE_ALL), ".tsv")
    assert got == rows
    found, got = rows_of('text\tlabel\n"wholly in quotes"\tgood\n"at one end\tgood\n', ".tsv")
    assert [row["text"] for row in got] == ['"wholly in quotes"', '"at one end']
    assert "which are kept as text (set task.quoting=standard to read them as CSV): 2" in found.notes[0]


def test_tsv_with_an_unbalanced_quote_and_a_bad_row_is_read_without_quotes():
    text = unquoted_rows(("label", "text"), 3, 20, separator="\t").replace("visit 9 was", "visit 9\twas")
    with pytest.raises(ValueError, match=r"line 11 has 3 columns, and the header 2; a text without quotes"):
        rows_of(text, ".tsv")


@pytest.mark.parametrize(
    ("text", "note", "row"),
    [
        ("text;label\na, b;good\nc;bad\n", "columns are separated by semicolons", {"text": "a, b", "label": "good"}),
        ("text|label\na|good\nc|bad\n", "columns are separated by bars", {"text": "a", "label": "good"}),
        ('"text", "label"\n"a, b", "good"\n', "spaces after separators", {"text": "a, b", "label": "good"}),
        ('text, label\n"a, b", "good"\n', "spaces after separators", {"text": "a, b", "label": "good"}),
        ("text,label\na,x\n\n\nb,y\n\n", "empty lines between rows, which are skipped: 2", {"text": "a", "label": "x"}),
        ("a,good\nb,good\nc,bad\nd,bad\n", "line 1 was taken as the header ('a', 'good')", {"a": "b", "good": "good"}),
    ],
)  # fmt: skip
def test_inferred_format_is_noted(text, note, row):
    found, rows = rows_of(text, label="good" if text[:2] == "a," else "label")
    assert any(note in each for each in found.notes), found.notes
    assert rows[0] == row


def test_columns_by_number():
    found, rows = rows_of("a,good\nb,bad\n", label="2", header="none")
    assert found.columns == ("1", "2")
    assert rows == [{"1": "a", "2": "good"}, {"1": "b", "2": "bad"}]
    found, _ = rows_of("text,label,,\na,b,,\n")
    assert found.columns == ("text", "label", "column 3", "column 4")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_carriage_returns_end_lines_in_files_without_newlines(suffix):
    rows = [{"text": f"a {number}", "label": "good"} for number in range(3)]
    if suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\r" for row in rows)
    else:
        text = written(rows, ("text", "label"), "," if suffix == ".csv" else "\t", end="\r")
    assert rows_of(text, suffix)[1] == rows


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".csv", 'text,label\na,b\n"c,d\ne,f\n', r"line 3: unexpected end of data; .* so that all of lines 3 to 4"),
        (".csv", 'text,label\n"a,b\nc "d" e,f\n', r"line 3: .* in the field that line 2 opens; a quote within quotes"),
        (".csv", "text,label\na\rb,c\n", r"line 2 has a carriage return in it, outside quotes"),
        (".csv", "text,label\na,b\ntext,label\nc,d\n", r"line 3 repeats the header"),
        (".csv", "text,label\na,b\n\ufefftext,label\nc,d\n", r"line 3 repeats the header"),
        (".csv", "text,label,text\na,b,c\n", r"has several columns 'text'"),
        (".tsv", "text\ttext\na\tb\n", r"has several columns 'text'"),
        (".csv", ",\na,b\n", r"the first line that is not empty was taken as the header, and names no column"),
        (".csv", "\n  \n", r"the first line that is not empty was taken as the header, and names no column"),
        (".jsonl", '{"text": "a", "label": "b", "text": "c"}\n', r"line 1 is not valid JSON: the key 'text'"),
        (".jsonl", '{"text": "a", "n": {"b": 1, "b": 1}}\n', r"line 1 is not valid JSON: the key 'b' is there twice"),
    ],
)  # fmt: skip
def test_malformed_tables_are_refused(suffix, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        rows_of(text, suffix)
    assert "\n" not in str(caught.value)


def test_one_message_lists_all_bad_rows():
    def check(line, row, problems):
        try:
            label_of(row["label"])
        except ValueError as error:
            problems.add(line, "no label", f": label {error}")

    lines = ["text,label", *(f"a {number},good" for number in range(100))]
    short, empty = list(range(3, 40, 2)), list(range(42, 80, 2))
    for number in short:
        lines[number - 1] = "no label"
    for number in empty:
        lines[number - 1] = "text,"
    with pytest.raises(ValueError, match=r"file: 38 rows cannot be read") as caught:
        read_rows(lambda: [f"{line}\n" for line in lines], "file", ".csv", Layout(), Check(row=check))
    said = str(caught.value)
    assert f"({len(short)} with another number of columns, {len(empty)} with no label)" in said
    assert len(re.findall(r"\bline \d", said)) == 20
    assert all(f"line {number} has 1 column, and the header 2" in said for number in short)
    assert f"line {empty[0]}: label is empty" in said


def test_quoting_and_header_are_refused_for_json_lines():
    from seqlab.io.tables import check_kind

    for name in ("quoting", "header"):
        with pytest.raises(ValueError, match=f"task.{name}=none is for .csv and .tsv"):
            check_kind(".jsonl", Layout(**{name: "none"}))
