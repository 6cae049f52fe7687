"""Thirty malformed tables in ten classes: a message that names the rows, or the right rows."""

import json

import pytest

from seqlab_tasks.textclf import TextClassification

from .own_texts import BAD, GOOD

ROWS = [row for pair in zip(GOOD, BAD, strict=True) for row in ((pair[0], "pos"), (pair[1], "neg"))]
HEAD = "text,label\n"
SOUND = "".join(f"{text},{label}\n" for text, label in ROWS)  # lines 2 to 25 after a header
LAST = len(ROWS) + 1


def with_lines(*lines, after=SOUND):
    """A sound table whose last lines, from line 26 on, are these."""
    return HEAD + after + "\n".join(lines) + "\n"


def json_lines(*lines):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS) + "\n".join(lines) + "\n"


def rows(*more, of=ROWS):
    return [*of, *more]


CASES = {
    # class: (name, content, what is read, or what the message says)
    "quotes": [
        ("never_closed.csv", with_lines('"no end,pos', "a,neg"), r"line 26: .* lines 26 to 27 would be one field"),
        ("stray.csv", with_lines('"a 12" pizza,pos'), r"line 26: .*quote within quotes must be written twice"),
        (
            "joined.csv",
            HEAD + '"' + SOUND + 'the end",pos\n',
            r"joins 25 rows to 1: lines 2 to 26; without quotes all 25 lines are rows: set task.quoting=none",
        ),
    ],
    "fields": [
        ("too_many.csv", with_lines("one, two,pos", "a,b,c,neg"), r"2 rows .*line 26 has 3 columns.*line 27 has 4 col"),
        ("too_few.csv", with_lines("nothing"), r"line 26 has 1 column, and the header 2"),
        (
            "many.csv",
            with_lines(*["x,y,z"] * 30),
            r"30 rows .*30 with another number of columns\): the f",
        ),
    ],
    "encoding": [
        (
            "latin.csv",
            with_lines("café,pos").encode("latin-1"),
            r"line 26: byte \d+ is not UTF-8 .*=cp1252.*café",
        ),
        (
            "cyrillic.csv",
            with_lines(*["Привет это тест очень хорошего магазина и доставка быстрая,pos"] * 3).encode("cp1251"),
            r"line 26: byte \d+ is not UTF-8 .*task.encoding=cp1251 \(which reads .Привет. there\)",
        ),
        ("wide.csv", (HEAD + SOUND).encode("utf-16"), r"as in UTF-16, .*set task.encoding=utf-16"),
    ],
    "header": [
        ("none.csv", SOUND, r"there are I liked the soup, pos\. .*line 1 was taken as the header .*task.header=none"),
        ("again.csv", with_lines("text,label", "a,pos"), r"line 26 repeats the header; remove such lines"),
        ("double.csv", "text,label,text\na,pos,b\n", r"has several columns 'text'"),
    ],
    "separators": [
        ("semicolons.csv", (HEAD + SOUND).replace(",", ";"), rows()),
        ("tabs.csv", (HEAD + SOUND).replace(",", "\t"), rows()),
        ("mixed.csv", with_lines("a;pos", "b|neg"), r"line 26 has 1 column.*line 27 has 1 column"),
    ],
    "missing": [
        ("label.csv", with_lines("a,", "b, "), r"2 rows .*2 with no label.*line 26.*line 27.*task.on_missing=drop"),
        (
            "null.jsonl",
            json_lines('{"text": null, "label": "pos"}', '{"text": "a"}'),
            r"line 25.*null.*line 26 has no",
        ),
        ("text.csv", with_lines(",pos", " ,neg"), rows()),
    ],
    "labels": [
        ("several.jsonl", json_lines('{"text": "a", "label": ["pos", "neg"]}'), r"line 25: .*one label: choose one"),
        ("nan.jsonl", json_lines('{"text": "a", "label": NaN}'), r"line 25: label must be a string, got NaN"),
        ("blanks.csv", with_lines("a, pos ", "b,neg\t"), rows(("a", "pos"), ("b", "neg"))),
    ],
    "line_ends": [
        ("mac.csv", (HEAD + SOUND).replace("\n", "\r"), rows()),
        ("twice.csv", (HEAD + SOUND).replace("\n", "\r\r\n"), rows()),
        ("inside.csv", with_lines("a\rb,pos"), r"line 26 has a carriage return in it, outside quotes"),
    ],
    "json": [
        ("commas.jsonl", json_lines('{"text": "a", "label": "pos"},'), r"line 25 is not valid JSON.*one object a line"),
        ("cut.jsonl", json_lines('{"text": "a", "la'), r"line 25 is not valid JSON"),
        ("list.jsonl", json_lines('["a", "pos"]'), r"line 25 is not an object"),
    ],
    "no_text": [
        ("zero.csv", with_lines("a\0b,pos"), r"line 26: byte \d+ is zero"),
        ("workbook.csv", b"PK\x03\x04\x14\0\0\0\x08\0", r"is an Excel workbook \(save it as .csv, or name it .xlsx\)"),
        ("empty.csv", "\n \n", r"is empty$"),
    ],
}


@pytest.mark.parametrize(("name", "content", "expected"), [case for cases in CASES.values() for case in cases])
def test_a_malformed_table(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    task = TextClassification(data=str(path))
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected) as caught:
            task.splits()
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"task.data={path}")
        return
    _, documents = task.read_own()
    full = [(t, lab) for t, lab in zip(documents.texts, documents.labels, strict=True) if t.strip()]
    assert full == expected
    assert sum(len(split.targets) for split in task.splits().values()) == len(expected)


def test_there_are_thirty_in_ten_classes():
    assert [len(cases) for cases in CASES.values()] == [3] * 10
