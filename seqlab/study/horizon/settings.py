"""What a search is told: the keys of ``hydra.sweeper``, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, cast, final

from seqlab.errors import UserError
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.signature import Ge, Gt, Le, check_value, format_value
from seqlab.study.horizon.search import Ladder, Rules
from seqlab.sweeps.overrides import split_overrides

Match = Literal["none", "parameters", "state", "flops"]
_FINEST = 1e-4
"""Finer ladders would have more rungs than fit into memory."""
_TYPES: dict[str, Any] = {
    "start": Annotated[int, Ge(1)],
    "max_distance": Annotated[int, Ge(1), Le(10**9)],
    "resolution": Annotated[float, Ge(_FINEST), Le(1)],
    "learning_rates": tuple[Annotated[float, Gt(0)], ...],
    "seeds": Annotated[int, Ge(1), Le(1_000)],
    "first_seed": Annotated[int, Ge(0)],
    "confirm_seeds": Annotated[int, Ge(0), Le(1_000)],
    "check_budget": bool,
    "match": Match,
    "stop_when_solved": Annotated[int, Ge(0)],
    "callbacks": tuple[str, ...],
    "rows": dict[str, tuple[str, ...]],
    "tasks": dict[str, tuple[str, ...]],
    "only": tuple[str, ...],
    "params": dict[str, Any],
}


@final
@dataclass(frozen=True)
class Settings:
    """What a search is told.

    Attributes:
        start: the smallest distance.
        max_distance: the largest.
        resolution: the relative step from a distance to the next that can be told from it, and never less than 1.
        learning_rates: the grid, the same for every row.
        seeds: runs of each learning rate that is tried at a distance.
        first_seed: they are counted from here; another one makes it a search with fresh seeds.
        confirm_seeds: further ones, with which each end of an interval is tried again.
        check_budget: whether to train twice as long above each interval.
        match: by what the rows are made equal: they get the hidden size that comes nearest to the first row's count.
        stop_when_solved: epochs in a row that solve the task and end a run; 0 trains all runs to their end.
        callbacks: switched on in every run, where they are registered and the command line chooses none.
        rows: words of each row, by its label, beside those that the command line multiplies out.
        tasks: the same for tasks.
        only: labels of the rows to search, ``lstm`` or ``lstm/adding``; none means all.
        params: further words, by key, as if they had been typed.
    """

    start: int = 4
    max_distance: int = 1024
    resolution: float = 0.02
    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01)
    seeds: int = 3
    first_seed: int = 0
    confirm_seeds: int = 3
    check_budget: bool = True
    match: Match = "none"
    stop_when_solved: int = 1
    callbacks: tuple[str, ...] = ("gradient_flow",)
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """What all rows of the search have in common."""
        fresh = self.first_seed + self.seeds
        return Rules(
            Ladder(self.start, self.max_distance, self.resolution),
            self.learning_rates,
            tuple(range(self.first_seed, fresh)),
            tuple(range(fresh, fresh + self.confirm_seeds)),
            self.check_budget,
        )

    def record(self) -> dict[str, Any]:
        """Give them as plain values."""
        return asdict(self)


def read_settings(node: Mapping[str, Any]) -> Settings:
    """Check the keys of ``hydra.sweeper``.

    Raises:
        UserError: a value is of the wrong kind or out of its range.
    """
    for key in node:
        if key != "_target_" and key not in _TYPES:
            raise UserError(unknown_key(f"hydra.sweeper.{key}", [f"hydra.sweeper.{each}" for each in _TYPES]))
    given = {key: value for key, value in node.items() if key in _TYPES}
    for key in ("learning_rates", "callbacks", "only"):
        if key in given:
            given[key] = _items(key, given[key])
    for key in ("rows", "tasks", "params"):
        if not isinstance(given.get(key) or {}, Mapping):
            raise UserError(f"hydra.sweeper.{key} must map names to overrides, got {format_value(given[key])}")
    for key in ("rows", "tasks"):
        if key in given:
            given[key] = {str(label): _words(key, label, words) for label, words in (given[key] or {}).items()}
    given["params"] = dict(given.get("params") or {})
    settings = Settings(**given)
    for key, annotation in _TYPES.items():
        check_value(f"hydra.sweeper.{key}", annotation, getattr(settings, key))
    if settings.max_distance < settings.start:
        raise UserError(
            f"hydra.sweeper.max_distance must be >= hydra.sweeper.start={settings.start}, got {settings.max_distance}"
        )
    rates = settings.learning_rates
    if not rates or len(set(rates)) < len(rates):
        fault = "each may occur once" if rates else "it must list one at least"
        raise UserError(f"hydra.sweeper.learning_rates is {format_value(list(rates))}; {fault}")
    return settings


def _items(key: str, value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise UserError(
            f"hydra.sweeper.{key} must be a list, such as [{format_value(value)}], got {format_value(value)}"
        )
    return tuple(value)


def _words(key: str, label: Any, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(split_overrides(value))
    if not isinstance(value, Sequence) or not all(isinstance(word, str) for word in value):
        raise UserError(f"hydra.sweeper.{key}.{label} must list overrides such as cell=lstm, got {format_value(value)}")
    return tuple(cast(Sequence[str], value))
