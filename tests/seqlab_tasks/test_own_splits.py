"""Given splits, groups, rare classes, missing values and names of labels of the user's tables."""

import csv
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.splitting import SPLITS, Documents, SplitError, arrange, key
from seqlab_tasks.textclf import TextClassification

from .own_texts import BAD, GOOD, json_lines, rows_of

ROWS = [row for pair in zip(GOOD, BAD, strict=True) for row in ((pair[0], "pos"), (pair[1], "neg"))]


def table(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def by_split(task):
    found = defaultdict(list)
    for split, label, text in rows_of(task):
        found[split].append((text, label))
    return found


def test_splits_given_as_tables(tmp_path):
    """Rows keep their order; a text of train that test has, too, is removed from train."""
    parts = {"train": [*ROWS[:16], ("A TEXT  of test", "pos")], "valid": ROWS[16:20], "test": ROWS[20:]}
    parts["test"] = [*parts["test"], ("a text of test", "pos")]
    paths = {name: table(tmp_path / f"{name}.csv", ("text", "label"), rows) for name, rows in parts.items()}
    task = TextClassification(data=paths["train"], valid=paths["valid"], test=paths["test"])
    found = by_split(task)
    assert found == {"train": ROWS[:16], "valid": parts["valid"], "test": parts["test"]}
    assert "texts removed from train that also occur in valid or test: 1" in task.notes
    only_test = by_split(TextClassification(data=paths["train"], test=paths["test"]))
    assert only_test["test"] == parts["test"]
    assert sorted(only_test["train"] + only_test["valid"]) == sorted(ROWS[:16])
    with pytest.raises(ValueError, match=r"task.test=none.csv: no such file"):
        TextClassification(data=paths["train"], test="none.csv").splits()


def test_splits_given_by_a_column(tmp_path):
    names = ["train"] * 16 + ["Dev"] * 4 + ["TEST "] * 4
    rows = [(*row, name) for row, name in zip(ROWS, names, strict=True)]
    path = table(tmp_path / "x.csv", ("text", "label", "set"), rows)
    found = by_split(TextClassification(data=path, split_column="set"))
    assert found == {"train": ROWS[:16], "valid": ROWS[16:20], "test": ROWS[20:]}
    path = table(tmp_path / "x.csv", ("text", "label", "set"), [*rows, ("a", "pos", "unsup"), ("b", "pos", "")])
    with pytest.raises(ValueError, match=r'2 rows .*2 with no split in set.*line 26: set must be .*"unsup".*line 27'):
        TextClassification(data=path, split_column="set").splits()


GROUPS = st.lists(
    st.tuples(st.integers(0, 30), st.one_of(st.none(), st.sampled_from("abcdefghijk"))), min_size=12, max_size=60
)


@given(GROUPS, st.integers(0, 3))
def test_groups_and_copies_are_on_one_side(rows, seed):
    """Also where a text occurs in several groups, which must then be together."""
    texts, groups = [f"text {number}" for number, _ in rows], [group for _, group in rows]
    labels = [f"label {number % 2}" for number, _ in rows]
    documents = Documents(texts, labels, groups=groups)
    try:
        found = arrange(documents, "here", seed)
    except (ValueError, SplitError):
        return  # too few groups for three splits
    homes = {row: split for split, part in found.rows.items() for row in part}
    assert len(homes) == len(rows)
    for i, (text, group) in enumerate(zip(texts, groups, strict=True)):
        for j in range(i):
            if texts[j] == text or (group is not None and groups[j] == group):
                assert homes[i] == homes[j]
    shuffled = Documents(texts[::-1], labels[::-1], groups=groups[::-1])
    again = arrange(shuffled, "here", seed)
    assert {len(rows) - 1 - row: split for split, part in again.rows.items() for row in part} == homes


def test_without_groups_splits_are_what_they_were():
    texts = [f"text {number % 150}" for number in range(200)]
    labels = [str(number % 3) for number in range(200)]
    alone = arrange(Documents(texts, labels), "here", 0)
    assert arrange(Documents(texts, labels, groups=[None] * 200), "here", 0).rows == alone.rows
    assert arrange(Documents(texts, labels, groups=[key(text) for text in texts]), "here", 0).rows == alone.rows


def test_a_group_column(tmp_path):
    rows = [(f"{text} {i}", label, f"author {i % 5}") for i in range(10) for text, label in ROWS]
    path = table(tmp_path / "x.csv", ("text", "label", "author"), rows)
    task = TextClassification(data=path, group_column="author")
    homes = defaultdict(set)
    author = {text: name for text, _, name in rows}
    for split, _, text in rows_of(task):
        homes[author[text]].add(split)
    assert sorted(len(found) for found in homes.values()) == [1] * 5
    assert set.union(*homes.values()) == set(SPLITS)
    assert "groups that are each in one split: 5" in task.notes
    few = table(tmp_path / "few.csv", ("text", "label", "author"), [row for row in rows if row[2] < "author 2"])
    with pytest.raises(ValueError, match=r"2 labels have fewer than 3 different groups, .*: 'neg' \(2\), 'pos' \(2\)"):
        TextClassification(data=few, group_column="author").splits()


def test_groups_across_given_splits_are_refused(tmp_path):
    rows = [(text, label, f"author {i}", ("train", "test")[i // 2 % 2]) for i, (text, label) in enumerate(ROWS)]
    rows.append(("one more", "pos", "author 0", "test"))
    path = table(tmp_path / "x.csv", ("text", "label", "author", "set"), rows)
    with pytest.raises(ValueError, match=r"1 groups are in several of the given splits, such as 'author 0'"):
        TextClassification(data=path, group_column="author", split_column="set").splits()


def test_rows_without_a_text_or_a_label(tmp_path):
    more = [{"text": None, "label": "pos"}, {"text": "a"}, {"text": "b", "label": " "}, {"text": " ", "label": "neg"}]
    path = json_lines(tmp_path / "x.jsonl", [*({"text": text, "label": label} for text, label in ROWS), *more])
    with pytest.raises(ValueError, match=r"3 rows .*line 25: text .*line 26 has no column 'label'.*line 27: label is"):
        TextClassification(data=path).splits()
    task = TextClassification(data=path, on_missing="drop")
    assert sorted((text, label) for _, label, text in rows_of(task)) == sorted(ROWS)
    assert "rows without a text or a label, skipped: 4" in task.notes
    with pytest.raises(ValueError, match=r"2 rows .*line 26.*line 27: label is empty"):
        TextClassification(data=path, on_missing="empty").splits()


def test_joined_columns(tmp_path):
    rows = [(f"Title {i}" if i % 3 else "", text, label) for i, (text, label) in enumerate(ROWS)]
    path = table(tmp_path / "x.csv", ("title", "body", "label"), rows)
    _, documents = TextClassification(data=path, text_column=["title", "body"]).read_own()
    assert documents.texts == [f"{title}\n{body}" if title else body for title, body, _ in rows]


RARE = [*ROWS, ("odd one", "odd"), ("odd two", "odd"), ("Odd  one", "odd"), ("single", "single"), ("", "pos")]


def test_rare_classes_are_refused_merged_or_dropped(tmp_path):
    """Different texts are counted: copies and empty texts do not help."""
    path = table(tmp_path / "x.csv", ("text", "label"), RARE)
    with pytest.raises(ValueError, match=r"2 labels .* 3 different texts, one each .*: 'odd' \(2\), 'single' \(1\)"):
        TextClassification(data=path).splits()
    task = TextClassification(data=path, rare="drop")
    assert Counter(label for _, label, _ in rows_of(task)) == {"pos": len(GOOD), "neg": len(BAD)}
    assert any("4 of 'odd' (2), 'single' (1)" in note for note in task.notes)
    assert task.class_of("odd") == "odd"
    task = TextClassification(data=path, rare="merge")
    assert Counter(label for _, label, _ in rows_of(task)) == {"pos": len(GOOD), "neg": len(BAD), "other": 4}
    assert [task.class_of(label) for label in ("odd", "single", "pos")] == ["other", "other", "pos"]
    loaded = TextClassification()
    loaded.load_state_dict(task.state_dict())
    assert loaded.class_of("single") == "other"
    assert loaded.labels == task.labels
    with pytest.raises(ValueError, match=r"4 labels have fewer than 13 different texts: 'neg' \(12\)"):
        TextClassification(data=path, min_class_count=13).splits()


def test_rare_classes_of_given_splits_are_counted_in_train(tmp_path):
    rows = [*((*row, "train") for row in ROWS[:16]), *((*row, "dev") for row in ROWS[16:20])]
    rows += [*((*row, "test") for row in ROWS[20:]), ("new", "new", "test"), ("once", "once", "train")]
    path = table(tmp_path / "x.csv", ("text", "label", "set"), rows)
    with pytest.raises(ValueError, match=r"the label 'new' is in test"):
        TextClassification(data=path, split_column="set").splits()
    found = by_split(TextClassification(data=path, split_column="set", rare="drop"))
    assert found["test"] == ROWS[20:]
    assert ("once", "once") in found["train"]
    task = TextClassification(data=path, split_column="set", rare="merge", min_class_count=2)
    assert ("new", "other") in by_split(task)["test"]


def test_names_of_coded_labels(tmp_path):
    codes = {"pos": 1, "neg": 2}
    path = json_lines(tmp_path / "x.jsonl", [{"text": text, "label": codes[label]} for text, label in ROWS])
    for names in ({1: "pos", 2: "neg"}, {"1": "pos", "2": "neg"}):
        task = TextClassification(data=path, label_names=names)
        assert sorted((text, label) for _, label, text in rows_of(task)) == sorted(ROWS)
        assert not any("label_names" in note for note in task.notes)
        assert [task.class_of(label) for label in ("1", "neg", "3")] == ["pos", "neg", "3"]
    task = TextClassification(data=path, label_names={1: "pos", 7: "x"})
    task.splits()
    assert task.labels == ("2", "pos")
    assert "labels without a name in task.label_names: '2'" in task.notes
    assert "names in task.label_names of labels that do not occur: '7'" in task.notes


def test_a_blank_text_joins_no_groups(tmp_path):
    """Each author has a blank text; folds keep authors together, but not all of them."""
    lines = [f"{'ab'[n % 2]}\ttext {author} {n}\t{author}" for author in range(12) for n in range(4)]
    lines += [f"a\t\t{author}" for author in range(12)]
    path = tmp_path / "own.tsv"
    path.write_text("label\ttext\tauthor\n" + "\n".join(lines) + "\n", "utf-8")
    splits = TextClassification(data=str(path), group_column="author", folds=4, fold=0).splits()
    assert {name: len(part.targets) for name, part in splits.items()}.keys() == {"train", "valid", "test"}
    assert len(splits["test"].targets) == 12


def test_a_rare_class_is_counted_by_what_folds_need(tmp_path):
    path = tmp_path / "own.tsv"
    rows = [(label, f"{label} {n}") for label, count in (("a", 20), ("b", 20), ("c", 4)) for n in range(count)]
    path.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows), "utf-8")
    task = TextClassification(data=str(path), folds=5, fold=0, rare="drop")
    task.splits()
    assert task.state_dict()["labels"] == ["a", "b"]
