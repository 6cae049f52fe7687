"""Types and ranges of values, by annotation."""

import math
from enum import Enum
from typing import Annotated, Any, Literal

import pytest

from seqlab.errors import UserError
from seqlab.plugins.diagnostics import suggestions, unknown_key
from seqlab.plugins.signature import Ge, Gt, Le, Lt, Meaning, NotEmpty, check_value, format_value


class Colour(Enum):
    """Of two."""

    red = 1
    blue = 2


NUMBER = Annotated[float, Ge(0), Lt(1)]
CASES = [
    (int, [0, -3, 10**12], [True, 1.0, math.nan, "1", None, [1], 2**63, -(10**20)]),
    (float, [0, -2.5, 3], [False, math.nan, math.inf, -math.inf, "0.1", None]),
    (bool, [True, False], [0, 1, "true", None]),
    (str, ["", "abc", "1"], [1, None, True, ["a"]]),
    (Annotated[str, NotEmpty()], ["a"], ["", "  ", None]),
    (Annotated[int, Ge(1), Le(3)], [1, 3], [0, 4, True, 1.5]),
    (Annotated[float, Gt(0)] | None, [1e-9, None], [0, -1, math.nan, False]),
    (NUMBER, [0, 0.999], [1, -1e-9]),
    (Annotated[int, Ge(1)] | Literal["auto"], [1, "auto"], [0, "Auto", True, None]),
    (Literal["a", 1], ["a", 1], [True, "1", 1.0, None]),
    (list[NUMBER], [[], [0, 0.5]], [0.5, "ab", [0, 2], [True], None, {"a": 1}]),
    (tuple[NUMBER, NUMBER], [[0.9, 0.99], (0, 0)], [[0.9], [0.9, 0.9, 0.9], 0.9]),
    (tuple[str, ...], [[], ["a", "b"]], ["ab", [1]]),
    (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, [1], None]),
    (int | str, [1, "a"], [1.5, True, math.nan]),
    (Any, [1, None, "a", [1]], [math.nan, math.inf]),
    (Colour, ["red", Colour.blue], ["green", 3]),
]


@pytest.mark.parametrize(("annotation", "right", "wrong"), CASES, ids=lambda value: str(value)[:30])
def test_types_and_ranges(annotation, right, wrong):
    for value in right:
        check_value("key", annotation, value)
    for value in wrong:
        with pytest.raises(UserError, match=r"^key must be .*, got "):
            check_value("key", annotation, value)


@pytest.mark.parametrize(
    ("annotation", "value", "line"),
    [
        (Annotated[int, Ge(1)], -3, "k must be >= 1, got -3"),
        (int | Annotated[None, Meaning("never")], False, "k must be an integer or null (never), got false"),
        (tuple[NUMBER, NUMBER], [0.9], "k must be a list of 2 numbers >= 0 and < 1, got [0.9]"),
        (Literal["a", "b", "c"], "d", "k must be a, b or c, got d"),
        (float, "nan", "k must be a number, got 'nan'"),
        (bool, {"a": None}, "k must be true or false, got {a: null}"),
        (int, "x" * 200, f"k must be an integer, got {'x' * 80} ..."),
    ],
)  # fmt: skip
def test_message_names_the_range(annotation, value, line):
    with pytest.raises(UserError) as caught:
        check_value("k", annotation, value)
    assert str(caught.value) == line


def test_values_are_formatted_as_typed():
    assert [format_value(value) for value in (None, True, "a b", "1", "", math.nan, [1, "x"])] == [
        "null", "true", "a b", "'1'", "''", "nan", "[1, x]",
    ]  # fmt: skip


KEYS = [
    "seed",
    "cell",
    "cell.hidden_size",
    "model",
    "model.depth",
    "model.dropout",
    "model.embedding_size",
    "optimizer",
]
KEYS += ["optimizer.lr", "optimizer.weight_decay", "trainer", "trainer.max_epochs", "trainer.max_steps", "data"]
KEYS += [
    "data.batch_size",
    "data.workers",
    "task",
    "task.sequence_length",
    "trainer.gradient_clip_val",
    "preprocessing",
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr", "optimizer.lr"), ("learning_rate", "optimizer.lr"), ("trainer.lr", "optimizer.lr"),
        ("LR", "optimizer.lr"),
        ("epochs", "trainer.max_epochs"),
        ("trainer.epochs", "trainer.max_epochs"), ("max-epochs", "trainer.max_epochs"),
        ("bs", "data.batch_size"), ("batch", "data.batch_size"), ("batchsize", "data.batch_size"),
        ("hidden_size", "cell.hidden_size"), ("hidden", "cell.hidden_size"),
        ("model.hidden_size", "cell.hidden_size"),
        ("layers", "model.depth"), ("dropout", "model.dropout"), ("wd", "optimizer.weight_decay"), ("sed", "seed"),
        ("optimiser", "optimizer"), ("trainer.max_epoch", "trainer.max_epochs"), ("clip", "trainer.gradient_clip_val"),
        ("output_dir", "hydra.run.dir"), ("tokenizer", "preprocessing"), ("dataset", "task"),
        ("seq_len", "task.sequence_length"),
    ],
)  # fmt: skip
def test_names_of_other_libraries_lead_to_the_key(typed, meant):
    assert suggestions(typed, KEYS)[0] == meant
    assert f"{typed}: there is no such key; did you mean {meant}" in unknown_key(typed, KEYS)


def test_no_suggestion_for_distant_names():
    assert suggestions("zzz", KEYS) == suggestions("foo", KEYS) == suggestions("hydra.lr", KEYS) == []
