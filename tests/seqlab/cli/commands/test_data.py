"""``data``: statistics and samples."""

import json


def test_running_text_is_counted_and_shown(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    line = "this very line stands everywhere\n"
    (tmp_path / "text.txt").write_text(("äb c\n" + line) * 200, "utf-8")
    done = cli("data", "task=lm", f"task.data={tmp_path}/text.txt", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    text = ("äb c\n" + line) * 200
    assert sum(split["bytes"] for split in record["splits"].values()) == len(text.encode())
    assert sum(split["tokens"] for split in record["splits"].values()) == len(text)
    assert record["duplicates"]["lines of test in train"] >= 9
    assert record["examples"][0]["text"].startswith("äb c\nthis")
    assert record["vocabulary"]["size"] == 2 + len(set(text))


def test_classes_and_duplicates_are_counted(cli, names_folder):
    done = cli("data", "task=names", f"task.data_dir={names_folder}", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    for split in ("train", "valid", "test"):
        assert abs(sum(shares[split] for shares in record["classes"].values()) - 1) < 1e-9
    assert record["duplicates"]["test in train"] == 0
    shown = cli("data", "task=names", f"task.data_dir={names_folder}")
    assert "share unknown" in shown.out
    assert "duplicates test in train: 0" in shown.out


def test_notes_of_the_reader_are_printed(cli, tmp_path):
    """A separator that the name does not say, labels that look alike, texts of blanks; and how many rows there are."""
    rows = [(f"I went there {number} times", ("good", "Good")[number % 2]) for number in range(20)]
    text = "".join(f"{text};{label}\n" for text, label in [("text", "label"), *rows, (" ", "good")])
    (tmp_path / "x.csv").write_text(text, "utf-8")
    words = ["data", "task=textclf", f"task.data={tmp_path}/x.csv"]
    record = json.loads(cli(*words, "--json").out)
    assert sum(split["examples"] for split in record["splits"].values()) == 20
    for said in ("separated by semicolons", "'Good' and 'good'", "empty texts skipped: 1"):
        assert any(said in note for note in record["notes"]), said
    shown = cli(*words).out
    assert "examples of all splits: 20" in shown
    assert all(note in shown for note in record["notes"])


def test_generated_symbols_are_written_out(cli):
    words = ["task.examples=50", "task.held_out=20", "task.sequence_length=6"]
    done = cli("data", "task=first", *words, "--examples", "2", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record["vocabulary"]["first"] == ["", *"abcdefgh"]
    assert len(record["examples"]) == 2
    for example in record["examples"]:
        letters = example["text"].split()
        assert [" abcdefgh".index(letter) for letter in letters] == example["ids"]
        assert len(letters) == example["tokens"] == 6
    assert abs(sum(shares["test"] for shares in record["classes"].values()) - 1) < 1e-9
    assert cli("data", "task=adding", *words).code == 0  # numbers, which have no names
