"""What will be trained on: the data of a task, counted and sampled before any training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, cast

from seqlab.contracts import Corpus, Examples, Preprocessor, Ragged, Task
from seqlab.contracts.task import input_spec, is_fresh, label_names
from seqlab.data.datamodule import SPLITS, SequenceData
from seqlab.data.duplicates import count_duplicates
from seqlab.data.encoding import format_symbols, symbols_of

AFTER = " after preprocessing"
"""What ends the names of counts of encoded examples."""
_SHOWN = 200
"""Characters of a text that are shown."""


def data_summary(data: SequenceData, examples: int = 3) -> dict[str, Any]:
    """Describe a task's data as plain JSON values.

    Args:
        data: not prepared yet, or prepared.
        examples: how many to show of the training split, and of the texts that were dropped from it.

    Returns:
        ``splits`` (what is known of each), ``vocabulary``, ``examples`` (raw and as the model reads them),
        ``dropped`` (texts and why), ``classes`` (share of each label by split), ``duplicates`` and ``notes``.

    Raises:
        ValueError, OSError: the data cannot be had.
    """
    data.prepare()
    splits = data.task.splits()
    record: dict[str, Any] = {"splits": data.statistics, "notes": list(data.notes)}
    if data.preprocessor is not None:
        record["vocabulary"] = _vocabulary(data.preprocessor)
    train = splits["train"]
    if isinstance(train, Corpus):
        record["examples"] = _pieces(train, data.preprocessor, examples)
        record["duplicates"] = _lines(cast(Mapping[str, Corpus], splits))
        return record
    inputs = train.inputs
    if isinstance(inputs, Ragged) or data.preprocessor is None:
        if isinstance(inputs, Ragged) and (symbols := symbols_of(input_spec(data.task))) is not None:
            record["vocabulary"] = {"size": len(symbols), "first": list(symbols[:24])}
            record["examples"] = _spelled(inputs, symbols, examples)
        record["classes"] = _classes(data.task, cast(Mapping[str, Examples], splits))
        record["duplicates"] = _after_preprocessing(data)
        return record
    record |= _texts(list(inputs), data, examples)
    all_of = cast(Mapping[str, Examples], splits)
    texts = {name: list(map(_bytes, cast(list[str], split.inputs))) for name, split in all_of.items()}
    record["duplicates"] = count_duplicates(texts) | _after_preprocessing(data)
    record["classes"] = _classes(data.task, all_of)
    return record


def _texts(texts: Sequence[str], data: SequenceData, examples: int) -> dict[str, Any]:
    """Show texts of the training split, and some that were dropped from it."""
    assert data.preprocessor is not None
    step = max(1, len(texts) // max(1, examples))
    dropped = islice(data.dropped.items(), examples)
    return {
        "examples": [_read(text, data.preprocessor) for text in texts[::step][:examples]],
        "dropped": [{"text": texts[index][:_SHOWN], "reason": reason} for index, reason in dropped],
    }


def _vocabulary(preprocessor: Preprocessor) -> dict[str, Any]:
    symbols = preprocessor.symbols
    return {"size": preprocessor.size, "first": [] if symbols is None else list(symbols[:24])}


def _read(text: str, preprocessor: Preprocessor) -> dict[str, Any]:
    ids = preprocessor.encode([text]).values.tolist()
    return {"text": text[:_SHOWN], "ids": ids[:24], "read_as": preprocessor.decode(ids)[:_SHOWN], "tokens": len(ids)}


def _spelled(inputs: Ragged, symbols: Sequence[str], examples: int) -> list[dict[str, Any]]:
    """Show token ids as their symbols; what is read is what is written."""
    step = max(1, len(inputs) // max(1, examples))
    rows = [inputs.values[inputs.starts[row] :][: inputs.lengths[row]].tolist() for row in range(0, len(inputs), step)]
    return [
        {"text": (text := format_symbols(ids, symbols)[:_SHOWN]), "ids": ids[:24], "read_as": text, "tokens": len(ids)}
        for ids in rows[:examples]
    ]


def _pieces(corpus: Corpus, preprocessor: Preprocessor | None, examples: int) -> list[dict[str, Any]]:
    assert preprocessor is not None
    piece = next(iter(corpus.pieces()))
    step = max(1, len(piece) // max(1, examples))
    return [_read(piece[begin : begin + _SHOWN], preprocessor) for begin in range(0, len(piece), step)][:examples]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _after_preprocessing(data: SequenceData) -> dict[str, int]:
    """Count the same of examples as the model reads them: encoded, and cut to the task's length."""
    if is_fresh(data.task):
        return {}
    counts = count_duplicates({name: inputs.digests() for name, (inputs, _) in data.encoded.items()})
    return {f"{what}{AFTER}": count for what, count in counts.items()}


def _lines(splits: Mapping[str, Corpus]) -> dict[str, int]:
    """Count the lines of held-out text that occur in the training text; short ones say nothing."""
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


_LONG_LINE = 20
"""Characters from which on a line that occurs twice is worth counting."""


def _classes(task: Task, splits: Mapping[str, Examples]) -> dict[str, dict[str, float]]:
    labels = label_names(task)
    if labels is None:
        return {}
    counted = {name: Counter(split.targets.tolist()) for name, split in splits.items()}
    return {
        label: {name: counts[index] / counts.total() for name, counts in counted.items()}
        for index, label in enumerate(labels)
    }
