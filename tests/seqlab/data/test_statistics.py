"""Examples that several splits have once they are encoded: counted, reported, and dropped on request."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seqlab
from seqlab import Ragged, UserError
from seqlab.config.compose import compose
from seqlab.data.statistics import count_duplicates, find_duplicates
from seqlab.data.summary import data_summary
from seqlab.training.run import plain_config
from seqlab.training.session import prepare_data

SPLIT = st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=8)


def ragged(rows, kind=torch.int64):
    return Ragged.of([torch.tensor(row, dtype=kind) for row in rows])


@given(rows=SPLIT, more=SPLIT, kind=st.sampled_from([torch.int64, torch.int32, torch.float32, torch.float64]))
def test_digests_are_equal_where_sequences_are(rows, more, kind):
    ours, theirs = ragged(rows, kind).digests(), ragged(more, kind).digests()
    assert [[a == b for b in theirs] for a in ours] == [[a == b for b in more] for a in rows]


@given(rows=SPLIT, data=st.data())
def test_take_returns_the_rows(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    taken = ragged(rows).take(torch.tensor(chosen, dtype=torch.int64))
    assert [part.tolist() for part in taken.values.split(taken.lengths.tolist())] == [rows[row] for row in chosen]


@given(train=SPLIT, valid=SPLIT, test=SPLIT)
def test_counts_and_kept_rows_match_sets(train, valid, test):
    splits = {"train": train, "valid": valid, "test": test}
    digests = {name: ragged(rows).digests() for name, rows in splits.items()}
    counts = count_duplicates(digests)
    assert counts["test in train"] == sum(row in train for row in test)
    assert counts["valid in train"] == sum(row in train for row in valid)
    assert counts["within train"] == len(train) - len(set(map(tuple, train)))
    assert find_duplicates(digests).same == {"valid": counts["valid in train"], "test": counts["test in train"]}
    left = [row for row in train if row not in valid and row not in test]
    if not left or not [row for row in valid if row not in test]:
        with pytest.raises(ValueError, match=r"data\.duplicates=drop leaves nothing of"):
            find_duplicates(digests, drop=True)
        return
    found = find_duplicates(digests, drop=True)
    assert found.same == {"valid": 0, "test": 0}
    assert [train[row] for row in found.kept.get("train", torch.arange(len(train))).tolist()] == left


@pytest.fixture
def alike(tmp_path):
    """Texts that differ in their numbers alone, which a small vocabulary does not hold."""
    parts = [f"{opinion} {thing}" for opinion in ("good", "fine") for thing in ("soup", "rice", "cake", "tea")]
    rows = [{"text": f"visit {n} {parts[n % 8]}", "label": "pos"} for n in range(120)]
    rows += [{"text": f"visit {n} bad {parts[n % 8]}", "label": "neg"} for n in range(120)]
    path = tmp_path / "alike.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return ["task=textclf", f"task.data={path}", "preprocessing.max_size=16", "trainer.max_epochs=1", "logger=none"]


def by_hand(options):
    """Held-out texts whose token ids a training text has, by plain lists."""
    task, data = prepare_data(plain_config(compose(options)))
    ids = {
        name: [data.preprocessor.encode([text]).values.tolist() for text in split.inputs]
        for name, split in task.splits().items()
    }
    return data, {name: sum(row in ids["train"] for row in ids[name]) for name in ("valid", "test")}


def test_texts_equal_after_preprocessing_are_counted_and_reported(alike, tmp_path):
    data, expected = by_hand(alike)
    assert expected["test"] > 0
    assert {name: data.statistics[name]["same_as_train"] for name in expected} == expected
    record = data_summary(data)
    assert record["duplicates"]["test in train"] == 0
    assert record["duplicates"]["test in train after preprocessing"] == expected["test"]
    words = [*alike, "model=bow", "trainer.progress=false"]
    result = seqlab.run(compose(words), tmp_path / "keep")
    assert result.record["data"]["test"]["same_as_train"] == expected["test"]
    assert any(f"test: {expected['test']} of 24 examples" in note for note in result.record["notes"])
    with pytest.raises(UserError, match=r"data.duplicates must be keep or drop, got maybe"):
        plain_config(compose([*alike, "data.duplicates=maybe"]))


def test_dropping_keeps_the_held_out_rows_and_their_weights(tmp_path):
    rows = [(f"{word} number {n}", "pos") for word in ("one", "two", "six") for n in range(40)]
    rows += [(f"{word} other thing {n}", "neg") for word in ("one", "two", "six") for n in range(8)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows), "utf-8")
    base = ["task=textclf", f"task.data={path}", "preprocessing.max_size=24", "task.balance=sampling"]
    _, kept = prepare_data(plain_config(compose(base)))
    _, left = prepare_data(plain_config(compose([*base, "data.duplicates=drop"])))
    assert left.statistics["test"]["examples"] == kept.statistics["test"]["examples"]
    assert left.statistics["test"]["same_as_train"] == 0
    assert left.statistics["train"]["examples"] < kept.statistics["train"]["examples"]
    weights, targets = left.sample_weights(), left.encoded["train"][1]
    assert len(weights) == len(targets)
    assert len(set(zip(weights.tolist(), targets.tolist(), strict=True))) == 2
