"""Inputs of the checks."""

import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab.contracts import Batch, Cell, Examples, Preprocessor, Ragged, Report, Task
from seqlab.plugins.signature import options
from seqlab.recurrence import scan
from seqlab.testing.hints import is_class, output_shape
from seqlab.testing.suite import agree, demand

_HIDDEN_SIZES = (5, 4, 6, 8, 12, 16, 32, 64, 128)
"""Tried in turn: 5 is small, odd and equal to no other size; some cells want an even one, or room for heads."""


class RefusedError(AssertionError):
    """The constructor refuses these sizes or options."""


def make_cell(
    factory: Callable[..., Cell],
    arguments: Mapping[str, Any],
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    train: bool = False,
) -> Cell:
    """Make a cell, the same at every call with one seed.

    Args:
        factory: the cell's type, or what takes the same arguments.
        arguments: ``input_size`` and the options; ``hidden_size``, unless stated, is the first of 5 and a few
            rounder sizes that the constructor takes.
        seed: of its weights.
        dtype: of its weights.
        train: whether it is in training.

    Raises:
        RefusedError: its constructor refuses the arguments; the message says why.
        AssertionError: it cannot be made; the message says why.
    """
    sizes = [arguments["hidden_size"]] if "hidden_size" in arguments else _HIDDEN_SIZES
    refused: Exception | None = None
    for size in sizes:
        torch.manual_seed(seed)
        try:
            cell = factory(**{**arguments, "hidden_size": size})
        except (ValueError, AssertionError) as error:
            refused = error
            continue
        except TypeError as error:
            fault = f"the constructor must take input_size and hidden_size, and need nothing else: {error}"
            raise AssertionError(fault) from error
        demand(isinstance(cell, Cell), f"the factory made a {type(cell).__name__}, which is not a seqlab.Cell")
        return (cell.double() if dtype == torch.float64 else cell.float()).train(train)  # leaves complex weights alone
    raise RefusedError(f"hidden_size {', '.join(map(str, sizes))}: the constructor refuses: {refused}")


def is_random(cell: Cell) -> bool:
    """Whether two calls with other random numbers differ in the mode that the cell is in."""
    x = torch.randn(4, 2, cell.input_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x.to(next((p.dtype for p in cell.parameters() if p.is_floating_point()), torch.float64))
    results = []
    with torch.no_grad(), torch.random.fork_rng([]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            results.append(scan(cell, x, cell.initial_state(x[0])))
    (first, one), (second, two) = results
    return not (torch.equal(first, second) and all(map(torch.equal, one, two)))


def check_defaults(made: object) -> None:
    """Demand that the constructor of what was made has a default for every argument."""
    target: type = type(made)
    bare = [option.name for option in options(target) if option.supplied]
    demand(not bare, f"the constructor of {target.__name__} needs {', '.join(bare)}; each must have a default")


def has_option(made: object, name: str) -> bool:
    """Say whether the constructor of what was made takes an argument of this name."""
    target: type = type(made)
    return any(option.name == name for option in options(target))


# JSON ---------------------------------------------------------------------------------------------------------------


def written(what: str, value: Any, *, nan: bool = False) -> Any:
    """Write a value as JSON in UTF-8, and give what is read back."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=nan)
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} cannot be written as JSON: {error}") from error
    return json.loads(text)


def check_plain(what: str, state: Any) -> dict[str, Any]:
    """Demand that a state is a ``dict`` which JSON gives back as it was; give what was read back."""
    demand(isinstance(state, dict), f"{what} is a {type(state).__name__}, and no dict")
    again: dict[str, Any] = written(what, state)
    lost = [repr(key) for key in state if key not in again or again[key] != state[key]]
    demand(
        not lost, f"{what}: JSON does not give back {', '.join(lost)} as it was (a tuple, or keys that are no text?)"
    )
    return again


_NONSENSE = {"?": [None]}


def check_refuses_bad_states(state: dict[str, Any], fresh: Callable[[], Any]) -> None:
    """Demand a ``ValueError`` with a message for each state that is not the right one with something wrong in it.

    Args:
        state: the right one, as JSON gave it back.
        fresh: makes what is to refuse.
    """
    for what, wrong in _bad_states(state):
        try:
            fresh().load_state_dict(wrong)
        except ValueError as error:
            demand(str(error), f"a state {what} is refused without a word")
        except Exception as error:
            raise AssertionError(f"a state {what} gives {type(error).__name__}, and no ValueError: {error}") from error
        else:
            raise AssertionError(f"a state {what} is accepted")


def _bad_states(state: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "of something else, {'no_such_key': [1]},", {"no_such_key": [1]}
    yield "with a key too many, no_such_key,", {**state, "no_such_key": [1]}
    for key, value in state.items():
        yield f"without {key}", {other: kept for other, kept in state.items() if other != key}
        yield f"whose {key} is {_NONSENSE}", {**state, key: _NONSENSE}
        if isinstance(value, list):
            yield f"whose {key} is {[_NONSENSE]}", {**state, key: [_NONSENSE]}


# What is read -------------------------------------------------------------------------------------------------------

_EVENTS = frozenset({"open", "os.listdir", "os.scandir", "socket.connect", "subprocess.Popen", "urllib.Request"})
_seen: list[str] | None = None
_watched: int | None = None
_installed = False


@contextmanager
def reads() -> Iterator[list[str]]:
    """List what is opened by this thread meanwhile: files, folders, connections, processes; imports are left out."""
    global _seen, _watched, _installed
    if not _installed:
        sys.addaudithook(_note)  # there is no taking it away again; it is idle but for the time of this context
        _installed = True
    found: list[str] = []
    _seen, _watched = found, threading.get_ident()
    try:
        yield found
    finally:
        _seen = _watched = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None or event not in _EVENTS or threading.get_ident() != _watched or _is_python_itself():
        return
    _seen.append(f"{event} {arguments[0] if event != 'socket.connect' else arguments[1]!r}")


def _is_python_itself() -> bool:
    """Say whether an import, a look at installed packages or a traceback's source is what opens a file."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        importing = file == "<frozen importlib._bootstrap>" and frame.f_code.co_name == "_find_and_load"
        if importing or file.endswith("linecache.py") or f"importlib{os.sep}metadata" in file:
            return True
        frame = frame.f_back  # type: ignore[assignment]  # None ends it
    return False


@final
@dataclass(frozen=True)
class Ready:
    """A task whose splits are made, and what encodes them.

    Attributes:
        task: what is checked.
        splits: what it gave.
        preprocessor: fitted on the training split; ``None`` where the inputs are tensors.
    """

    task: Task
    splits: Mapping[str, Examples]
    preprocessor: Preprocessor | None

    def rows(self, split: str, most: int) -> Tensor:
        """Draw so many rows of a split, or take all that there are."""
        return torch.randperm(len(self.splits[split]), generator=torch.Generator().manual_seed(0))[:most]

    def encoded(self, split: str, rows: Tensor) -> Ragged:
        """Encode these rows of a split."""
        inputs = self.splits[split].inputs
        if isinstance(inputs, Ragged):
            parts = [inputs.values[inputs.starts[row] :][: inputs.lengths[row]] for row in rows.tolist()]
            return Ragged.of(parts)
        assert self.preprocessor is not None
        return self.preprocessor.encode([inputs[row] for row in rows.tolist()])

    def batch(self, split: str = "train", most: int = 256) -> Batch:
        """Make a batch as training does: inputs padded to its own longest row, targets by row."""
        return self.batch_of(split, self.rows(split, most))

    def batch_of(self, split: str, rows: Tensor) -> Batch:
        """Make a batch of these rows."""
        inputs, lengths = self.encoded(split, rows).padded(torch.arange(len(rows)))
        return Batch(inputs, lengths, self.splits[split].targets[rows])


def windows(ids: Tensor, size: int) -> Examples:
    """Cut token ids into windows; the targets are the next tokens, and each is one once."""
    ids = ids[: 1 + (len(ids) - 1) // size * size]
    inputs = ids[:-1].view(-1, size)
    return Examples(Ragged(inputs.flatten(), torch.full((len(inputs),), size)), ids[1:].view(-1, size))


@final
class CodePoints(Preprocessor):
    """Each code point that training shows is a token; for tasks whose own preprocessing is not there."""

    def __init__(self) -> None:
        self._seen = ""

    def fit(self, texts: Any) -> None:
        """Collect the code points."""
        self._seen = "".join(sorted({symbol for text in texts for symbol in text}))

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Give a number to each that was seen, and 1 to others."""
        ids = {symbol: index for index, symbol in enumerate(self._seen, start=2)}
        return Ragged.of([torch.tensor([ids.get(symbol, 1) for symbol in text], dtype=torch.int64) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        """Write texts from numbers."""
        return "".join(f"\0\ufffd{self._seen}"[token] for token in ids if token)

    @property
    def size(self) -> int:
        """Code points that were seen, padding and the unknown one."""
        return 2 + len(self._seen)

    @property
    def unknown_id(self) -> int:
        """1."""
        return 1

    def state_dict(self) -> dict[str, Any]:
        """Give the code points."""
        return {"symbols": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._seen = state["symbols"]


def check_tensors(name: str, inputs: Ragged, train: Ragged) -> None:
    """Check a split's token ids or features against those of the training split."""
    values = inputs.values
    demand(
        values.dtype == train.values.dtype, f"{name}: inputs are {values.dtype}, those of train {train.values.dtype}"
    )
    demand(inputs.lengths.dtype == torch.int64, f"{name}: the lengths are {inputs.lengths.dtype}, not torch.int64")
    if values.is_floating_point():
        demand(values.dim() == 2, f"{name}: features have the shape {tuple(values.shape)}, not [steps, features]")
        sizes = (values.shape[1], train.values.shape[1])
        demand(sizes[0] == sizes[1], f"{name}: {sizes[0]} features, and {sizes[1]} in train")
        demand(bool(values.isfinite().all()), f"{name}: {int((~values.isfinite()).sum())} features are not finite")
        return
    demand(values.dtype == torch.int64, f"{name}: token ids are {values.dtype}, not torch.int64")
    demand(values.dim() == 1, f"{name}: token ids have the shape {tuple(values.shape)}, not [steps]")
    least, most, known = int(values.min()), int(values.max()), int(train.values.max())
    demand(least >= 1, f"{name}: a token id is {least}; 0 is padding, and the least id is 1")
    demand(most <= known, f"{name}: a token id is {most}, beyond the largest of train, {known}, which sizes the model")


def check_targets(name: str, targets: Tensor, task: Task) -> None:
    """Check that targets are finite numbers, or classes that the outputs have."""
    if not is_class(targets):
        odd = 0 if targets.dtype == torch.bool else int((~targets.isfinite()).sum())
        demand(not odd, f"{name}: {odd} of {targets.numel()} targets are not finite")
        return
    demand(targets.dtype == torch.int64, f"{name}: classes are {targets.dtype}, not torch.int64")
    negative = sorted(set(targets[targets < 0].tolist()))
    demand(not negative or task.per_step, f"{name}: a target is {negative[:1]}; classes begin at 0")
    demand(len(negative) <= 1, f"{name}: targets are {negative}; one negative number at most marks what does not count")
    demand(len(targets[targets >= 0]), f"{name}: no target counts")


def check_more_classes(task: Task, batch: Batch) -> None:
    """Demand of targets beyond the outputs, as those of ordinal regression are, that the loss takes them."""
    most, outputs = int(batch.targets.max()), task.outputs
    if most < max(outputs, 2):  # one output tells two classes apart
        return
    try:
        loss = task.loss(torch.zeros(output_shape(task, batch)), batch)
        fault = "" if loss.isfinite() else f"the loss is {loss.item():g}"
    except Exception as error:
        fault = f"the loss fails: {error}".splitlines()[0]
    demand(not fault, f"a target is {most} and outputs is {outputs}, so that classes go to {outputs - 1}; {fault}")


def check_report(report: Report, folder: Path) -> None:
    """Check that tables are plain, notes texts, and figures files in the folder."""
    demand(isinstance(report, Report), f"report gives a {type(report).__name__}, and no seqlab.Report")
    written("the report's tables", report.tables, nan=True)
    for name, rows in report.tables.items():
        plain = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        demand(plain, f"the table {name} is no list of rows, each a dict")
    demand(all(isinstance(note, str) for note in report.notes), "a note is no text")
    for figure in report.figures:
        path = (folder / figure).resolve()
        demand(path.is_relative_to(folder), f"the figure {figure} is not in the report's folder")
        demand(path.is_file() and path.stat().st_size, f"the figure {figure} is not there, or empty")


def row_keys(inputs: Sequence[str] | Ragged) -> Iterator[str | bytes]:
    """Give what tells an input from all others, for each: the text, or the tensor's bytes."""
    if not isinstance(inputs, Ragged):
        yield from inputs
        return
    for part in torch.split(inputs.values, inputs.lengths.tolist()):
        yield part.contiguous().numpy().tobytes()


def difference(actual: Examples, expected: Examples) -> str:
    """Say how two splits differ; empty if they do not."""
    if len(actual) != len(expected):
        return f"{len(actual)} examples, and {len(expected)} before"
    pairs = zip(row_keys(actual.inputs), row_keys(expected.inputs), strict=True)
    if wrong := sum(one != other for one, other in pairs):
        return f"{wrong} of {len(actual)} inputs differ"
    here, there = actual.targets, expected.targets
    if here.shape != there.shape or here.dtype != there.dtype or not torch.equal(here.nan_to_num(), there.nan_to_num()):
        return "the targets differ"
    return ""


def alike(actual: Any, expected: Any) -> bool:
    """Say whether two JSON values are the same, numbers to a part in 10,000."""
    if isinstance(actual, float) and isinstance(expected, float):
        return abs(actual - expected) <= 1e-4 * max(1.0, abs(expected))
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(alike(actual[key], expected[key]) for key in actual)
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(alike, actual, expected))
    return bool(actual == expected)


def agree_scores(what: str, actual: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Check that scores are the same, but for rounding."""
    for name, value in expected.items():
        agree(f"{name} {what}", torch.tensor(actual[name]), torch.tensor(value), 1e-4)


def updated(metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> MetricCollection:
    """Show outputs to metrics, and give them back."""
    metrics.update(outputs, targets)
    return metrics


def values_of(metrics: MetricCollection) -> dict[str, float]:
    """Compute metrics as plain numbers."""
    return {name: float(value) for name, value in metrics.compute().items()}


def other_inputs(inputs: Tensor) -> Tensor:
    """Change all that is no padding: features, or token ids within their range."""
    if inputs.is_floating_point():
        return 1 - 2 * inputs
    return torch.where(inputs > 0, int(inputs.max()) + 1 - inputs, inputs)


def other_targets(targets: Tensor, outputs: int) -> Tensor:
    """Change all targets but the marks of what does not count."""
    if targets.dtype == torch.bool:
        return ~targets
    if targets.is_floating_point():
        return 1 - 2 * targets
    classes = max(outputs, 2, int(targets.max()) + 1 if targets.numel() else 0)
    return torch.where(targets >= 0, (targets + 1) % classes, targets)


@contextmanager
def random_numbers(seed: int) -> Iterator[None]:
    """Seed the random numbers of torch, NumPy and Python for a while."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Change the working folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
