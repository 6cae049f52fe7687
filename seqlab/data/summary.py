"""Summary of a task's data before training: counts, samples, class shares and duplicates."""

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from itertools import islice
from typing import Any, cast

from seqlab.contracts import Corpus, Examples, Preprocessor, Ragged, Task
from seqlab.contracts.task import input_spec, is_fresh, label_names
from seqlab.data.datamodule import SPLITS, SequenceData
from seqlab.data.encoding import first_sequences, format_symbols, symbols_of
from seqlab.data.statistics import count_duplicates

AFTER = " after preprocessing"
"""Suffix of the names of counts of encoded examples."""
_MAX_CHARACTERS = 200
"""Characters of a text to show."""
_MAX_SYMBOLS = 24
"""Token ids of a text, or entries of a vocabulary, to show."""
_UNEQUAL = 5
"""Ratio of the most to the least frequent class from which balancing them is proposed."""
_LONG_LINE = 20
"""Characters from which on a line that occurs twice is counted as a duplicate."""


def data_summary(data: SequenceData, examples: int = 3) -> dict[str, Any]:
    """Describe a task's data as plain JSON values.

    Args:
        data: not prepared yet, or prepared.
        examples: how many to show of the training split, and of the texts that were dropped from it.

    Returns:
        ``splits`` (statistics of each), ``vocabulary``, ``examples`` (raw and encoded), ``dropped`` (texts and
        reasons), ``classes`` and ``class_counts`` (share and number of each label by split), ``duplicates``, ``notes``.

    Raises:
        ValueError, OSError: the data cannot be read.
    """
    data.prepare()
    splits, preprocessor = data.task.splits(), data.preprocessor
    record: dict[str, Any] = {"splits": data.statistics, "notes": list(data.notes)}
    if preprocessor is not None:
        record["vocabulary"] = _vocabulary(preprocessor.size, preprocessor.symbols or ())
    if isinstance(splits["train"], Corpus):
        return record | _summarise_text(data, cast(Mapping[str, Corpus], splits), examples)
    return record | _summarise_examples(data, cast(Mapping[str, Examples], splits), examples)


def proposed_overrides(record: Mapping[str, Any], overrides: Sequence[str], task: Mapping[str, Any]) -> list[str]:
    """Return the overrides of a run on summarised data: those given, and a balance of classes of unequal size.

    Args:
        record: of :func:`data_summary`.
        overrides: given by the user.
        task: its config node; no balance is proposed where it has none, or has another than ``none``.
    """
    counts = [each["train"] for each in record.get("class_counts", {}).values()]
    is_chosen = any(override.lstrip("+").startswith("task.balance=") for override in overrides)
    is_open = task.get("balance") == "none" and not is_chosen
    unequal = bool(counts) and max(counts) >= _UNEQUAL * max(1, min(counts)) and is_open
    return [*overrides, *(["task.balance=weights"] if unequal else [])]


def _summarise_text(data: SequenceData, splits: Mapping[str, Corpus], examples: int) -> dict[str, Any]:
    assert data.preprocessor is not None
    piece = next(iter(splits["train"].pieces()))
    texts = [piece[begin : begin + _MAX_CHARACTERS] for begin in range(0, len(piece), _step(piece, examples))]
    return {
        "examples": [_example(text, data.preprocessor) for text in texts[:examples]],
        "duplicates": _duplicate_lines(splits),
    }


def _summarise_examples(data: SequenceData, splits: Mapping[str, Examples], examples: int) -> dict[str, Any]:
    counts = _class_counts(data.task, splits)
    totals = {name: sum(each[name] for each in counts.values()) for name in splits}
    shares = {label: {name: count / totals[name] for name, count in each.items()} for label, each in counts.items()}
    record: dict[str, Any] = {"classes": shares, "class_counts": counts, "duplicates": {}}
    inputs = splits["train"].inputs
    if isinstance(inputs, Ragged):
        if (symbols := symbols_of(input_spec(data.task))) is not None:
            record["vocabulary"] = _vocabulary(len(symbols), symbols)
            record["examples"] = _symbol_examples(inputs, symbols, examples)
    elif data.preprocessor is not None:
        texts = list(inputs)
        rows = range(0, len(texts), _step(texts, examples))[:examples]
        record["examples"] = [_example(texts[row], data.preprocessor) for row in rows]
        if counts:
            for row, example in zip(rows, record["examples"], strict=True):
                example["label"] = list(counts)[int(splits["train"].targets[row])]
        record["dropped"] = [
            {"text": texts[index][:_MAX_CHARACTERS], "reason": reason}
            for index, reason in islice(data.dropped.items(), examples)
        ]
        raw = {
            name: [text.encode("utf-8", "surrogatepass") for text in cast(Sequence[str], split.inputs)]
            for name, split in splits.items()
        }
        record["duplicates"] = count_duplicates(raw)
    if not is_fresh(data.task):  # as the model reads them: encoded and truncated
        same = count_duplicates({name: encoded.digests() for name, (encoded, _) in data.encoded.items()})
        record["duplicates"] |= {f"{what}{AFTER}": count for what, count in same.items()}
    return record


def _step(items: Sized, examples: int) -> int:
    """Return the distance between ``examples`` evenly spaced items."""
    return max(1, len(items) // max(1, examples))


def _vocabulary(size: int, symbols: Sequence[str]) -> dict[str, Any]:
    return {"size": size, "first": list(symbols[:_MAX_SYMBOLS])}


def _example(text: str, preprocessor: Preprocessor) -> dict[str, Any]:
    ids = preprocessor.encode([text]).values.tolist()
    return _example_record(text, ids, preprocessor.decode(ids))


def _symbol_examples(inputs: Ragged, symbols: Sequence[str], examples: int) -> list[dict[str, Any]]:
    rows = [ids.tolist() for ids in first_sequences(inputs, examples, _step(inputs, examples))]
    return [_example_record(text := format_symbols(ids, symbols), ids, text) for ids in rows]


def _example_record(text: str, ids: list[int], decoded: str) -> dict[str, Any]:
    return {
        "text": text[:_MAX_CHARACTERS],
        "ids": ids[:_MAX_SYMBOLS],
        "read_as": decoded[:_MAX_CHARACTERS],
        "tokens": len(ids),
    }


def _duplicate_lines(splits: Mapping[str, Corpus]) -> dict[str, int]:
    """Count the long lines of held-out text that occur in the training text."""
    held_out = {
        name: Counter(line for piece in splits[name].pieces() for line in piece.split("\n") if len(line) >= _LONG_LINE)
        for name in SPLITS[1:]
    }
    known = {
        line
        for piece in splits["train"].pieces()
        for line in piece.split("\n")
        if any(line in lines for lines in held_out.values())
    }
    return {
        f"lines of {name} in train": sum(count for line, count in lines.items() if line in known)
        for name, lines in held_out.items()
    }


def _class_counts(task: Task, splits: Mapping[str, Examples]) -> dict[str, dict[str, int]]:
    labels = label_names(task)
    if labels is None:
        return {}
    counts = {name: Counter(split.targets.tolist()) for name, split in splits.items()}
    return {label: {name: count[index] for name, count in counts.items()} for index, label in enumerate(labels)}
