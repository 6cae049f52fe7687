"""Protocol of a card, read from YAML: tasks, lengths and budgets, the same for every cell; imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, final, get_args

import yaml  # type: ignore[import-untyped]  # PyYAML, which OmegaConf brings, has no types
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqlab.errors import UserError, one_line
from seqlab.plugins.hydra_source import read_yaml
from seqlab.plugins.registry import plugins
from seqlab.sweeps.overrides import check_file_overrides

Kind = Literal["lengths", "bits", "scores"]
"""``lengths``: trained up to a length and tested beyond; ``bits``: bits recalled; ``scores``: test scores."""
FULL, QUICK = "2", "2_quick"
"""File names of the included protocols."""


@final
@dataclass(frozen=True)
class Row:
    """One task of a part, or one of its sizes.

    Attributes:
        label: in tables.
        words: overrides of its runs.
        bits: entropy of the input to recall, for ``bits``.
        steps: number of steps over which the task averages its cross-entropy, for ``bits``.
    """

    label: str
    words: tuple[str, ...]
    bits: float = 0.0
    steps: int = 0


@final
@dataclass(frozen=True)
class Part:
    """Runs that share their budget and answer one question.

    Attributes:
        name: key in the card.
        title, text: heading, and a sentence on the measurement.
        kind: what is read from the runs.
        words: overrides of all runs.
        rows: tasks or sizes.
        trained: largest training length, for ``lengths``.
        tested: test lengths, for ``lengths``.
        limits: of the score, where the task's metric names none; no limits if empty.
    """

    name: str
    title: str
    text: str
    kind: Kind
    words: tuple[str, ...]
    rows: tuple[Row, ...]
    trained: int = 0
    tested: tuple[int, ...] = ()
    limits: tuple[float, ...] = ()

    def run_words(self, row: Row) -> tuple[str, ...]:
        """Return the overrides of a row's runs, without those of the cell and the seed."""
        added: tuple[str, ...] = ()
        if self.kind == "lengths":
            tested = ",".join(map(str, self.tested))
            added = (f"task.sequence_length={self.trained}", "task.lengths=curriculum", f"task.eval_lengths=[{tested}]")
        return (*self.words, *row.words, *added)

    def task_of(self, row: Row) -> str:
        """Return the name of a row's task; empty if its overrides choose none."""
        return next((word.partition("=")[2] for word in self.run_words(row) if word.startswith("task=")), "")


@final
@dataclass(frozen=True)
class Reach:
    """Horizon search.

    Attributes:
        tasks: names.
        words: overrides of all runs.
        settings: keys of ``hydra.sweeper``.
    """

    tasks: tuple[str, ...]
    words: tuple[str, ...]
    settings: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Cost:
    """Shape of a layer's timing: training steps of ``rows`` sequences of ``steps`` steps with ``inputs`` features."""

    rows: int
    steps: int
    inputs: int
    rounds: int


@final
@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Attributes:
        version: written on the card; cards of one version are comparable.
        minutes: on two idle cores.
        seeds: runs of each row.
        learning_rates: of which one is chosen for the cell, by the validation scores of ``pilot``.
        parameters: budget of the model that ``size`` configures; the hidden size nearest to it is chosen.
        size: overrides of that model.
        words: overrides of every run.
        cost, reach, parts: the measurements; ``reach`` may be left out.
        pilot: short runs at each learning rate; needed where there is more than one.
        pilot_seeds: runs of each of its rows and rates.
        digest: of the whole content.
    """

    version: str
    minutes: float
    seeds: int
    learning_rates: tuple[float, ...]
    parameters: int
    size: tuple[str, ...]
    words: tuple[str, ...]
    cost: Cost
    parts: tuple[Part, ...]
    reach: Reach | None = None
    pilot: Part | None = None
    pilot_seeds: int = 1
    digest: str = field(default="", compare=False)

    def seeds_of(self, part: Part) -> int:
        """Return the number of seeds of a part."""
        return self.pilot_seeds if part is self.pilot else self.seeds

    @property
    def pilots(self) -> tuple[Part, ...]:
        """The pilot, where it is needed."""
        return () if self.pilot is None or len(self.learning_rates) == 1 else (self.pilot,)

    def missing_tasks(self) -> list[str]:
        """Return the names of tasks that are not installed."""
        named = [*(self.reach.tasks if self.reach else ())]
        named += [part.task_of(row) for part in (*self.parts, *self.pilots) for row in part.rows]
        return [name for name in dict.fromkeys(named) if name not in plugins("task")]


def load(name: str) -> Protocol:
    """Read a protocol.

    Args:
        name: of an included one, or path of a YAML file.

    Raises:
        UserError: there is no such file, or it is no protocol.
    """
    if not name.endswith((".yaml", ".yml")):
        return _parse(name, (files("seqlab_conf") / "card" / f"{name}.yaml").read_text("utf-8"))
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{name}: there is no such file")
    protocol = _parse(name, read_yaml(path, aliases=False))
    words = [protocol.words, protocol.size]
    if protocol.reach is not None:
        words += [protocol.reach.words, tuple(f"task={name}" for name in protocol.reach.tasks)]
    parts = [*protocol.parts, *([protocol.pilot] if protocol.pilot else [])]
    for each in (*words, *(part.run_words(row) for part in parts for row in part.rows)):
        check_file_overrides(each, name, "remove it")
    return protocol


def _parse(where: str, text: str) -> Protocol:
    try:
        plain = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid YAML: {one_line(error)[:200]}") from error
    found = _fields(where, plain, Protocol, {"digest"})
    found["cost"] = Cost(**_fields(f"{where}: cost", found["cost"], Cost))
    if (reach := found.get("reach")) is not None:
        found["reach"] = Reach(**_fields(f"{where}: reach", reach, Reach))
    if not isinstance(parts := found["parts"], dict):
        raise UserError(f"{where}: parts must be a mapping, got {parts!r}")
    found["parts"] = tuple(_part(f"{where}: parts.{name}", str(name), part) for name, part in parts.items())
    if (pilot := found.get("pilot")) is not None:
        found["pilot"] = _part(f"{where}: pilot", "pilot", pilot)
        if found["pilot"].kind == "lengths":  # scores at the length that each rate reached cannot be compared
            raise UserError(f"{where}: pilot: kind must be one of bits, scores, got 'lengths'")
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
    protocol = Protocol(**found, digest=digest)
    for key in ("seeds", "parameters", "pilot_seeds"):
        if getattr(protocol, key) < 1:
            raise UserError(f"{where}: {key} must be >= 1, got {getattr(protocol, key)}")
    _check_rates(where, protocol)
    return protocol


def _check_rates(where: str, protocol: Protocol) -> None:
    rates = protocol.learning_rates
    if not rates or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        raise UserError(f"{where}: learning_rates must be numbers > 0, got {list(rates)}")
    if len(rates) > 1 and protocol.pilot is None:
        raise UserError(f"{where}: several learning_rates need a pilot")


def _part(where: str, name: str, plain: Any) -> Part:
    found = _fields(where, plain, Part, {"name"})
    if found["kind"] not in get_args(Kind):
        raise UserError(f"{where}: kind must be one of {', '.join(get_args(Kind))}, got {found['kind']!r}")
    if not isinstance(rows := found["rows"], dict) or not rows:
        raise UserError(f"{where}: rows must be a mapping, got {rows!r}")
    found["rows"] = tuple(
        Row(label=str(label), **_fields(f"{where}: rows.{label}", row, Row, {"label"})) for label, row in rows.items()
    )
    part = Part(name=name, **found)
    if part.kind == "lengths" and (part.trained < 1 or not part.tested or not all(map(_is_length, part.tested))):
        raise UserError(f"{where}: lengths needs trained and tested, in steps")
    if len(part.limits) not in (0, 2):
        raise UserError(f"{where}: limits must have two numbers, got {list(part.limits)}")
    if untasked := [row.label for row in part.rows if not part.task_of(row)]:
        raise UserError(f"{where}: rows.{untasked[0]}: words must choose a task, such as task=NAME")
    return part


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


_TYPES: Mapping[Any, type | tuple[type, ...]] = {
    str: str, int: int, float: (int, float), tuple[str, ...]: list, tuple[int, ...]: list, tuple[float, ...]: list,
    Mapping[str, Any]: dict,
}  # fmt: skip


def _fields(where: str, plain: Any, kind: Any, without: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    """Check the keys and types of a mapping against a dataclass; lists become tuples."""
    if not isinstance(plain, dict):
        raise UserError(f"{where} must be a mapping, got {plain!r}")
    known = {name: each for name, each in kind.__dataclass_fields__.items() if name not in without}
    if unknown := [str(key) for key in plain if key not in known]:
        raise UserError(f"{where}: there is no key {unknown[0]}; there are {', '.join(known)}")
    required = [name for name, each in known.items() if each.default is each.default_factory]  # both MISSING
    if absent := [name for name in required if name not in plain]:
        raise UserError(f"{where} lacks {', '.join(absent)}")
    for key, value in plain.items():
        expected = _TYPES.get(known[key].type)
        if expected is not None and (not isinstance(value, expected) or isinstance(value, bool)):
            raise UserError(f"{where}: {key} is {value!r}, of the wrong type")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
