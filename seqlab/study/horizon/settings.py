"""What a search is told: the keys of ``hydra.sweeper``, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast, final, get_args

from seqlab.errors import UserError
from seqlab.study.horizon.ladder import Ladder
from seqlab.study.horizon.search import Rules
from seqlab.sweeps.words import split_at_blanks

Match = Literal["none", "parameters", "state", "flops"]
_MOST = {"max_distance": 10**9, "seeds": 1_000, "confirm_seeds": 1_000}
_FINEST = 1e-4
"""Finer ladders would have more rungs than fit into memory."""


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
    known = {each.name for each in fields(Settings)}
    given = {key: value for key, value in node.items() if key in known}
    for key in ("learning_rates", "callbacks", "only"):
        if key in given:
            given[key] = _items(key, given[key])
    for key in ("rows", "tasks"):
        if key in given:
            given[key] = {str(label): _words(key, label, words) for label, words in (given[key] or {}).items()}
    given["params"] = dict(given.get("params") or {})
    settings = Settings(**given)
    _check_numbers(settings)
    for key in ("check_budget",):
        if not isinstance(getattr(settings, key), bool):
            raise UserError(f"hydra.sweeper.{key} is {getattr(settings, key)}; it must be true or false")
    if settings.match not in get_args(Match):
        raise UserError(f"hydra.sweeper.match is {settings.match}; it must be one of {', '.join(get_args(Match))}")
    return settings


def _check_numbers(settings: Settings) -> None:
    least = {"start": 1, "max_distance": settings.start, "seeds": 1, "first_seed": 0, "confirm_seeds": 0}
    for key, bound in (least | {"stop_when_solved": 0}).items():
        value = getattr(settings, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < bound:
            raise UserError(f"hydra.sweeper.{key} is {value}; it must be a whole number, at least {bound}")
        if value > _MOST.get(key, value):
            raise UserError(f"hydra.sweeper.{key} is {value}; it may be {_MOST[key]} at most")
    if not isinstance(settings.resolution, int | float) or not _FINEST <= settings.resolution <= 1:
        raise UserError(f"hydra.sweeper.resolution is {settings.resolution}; it must be from {_FINEST} to 1")
    rates = settings.learning_rates
    if not rates or any(not isinstance(rate, int | float) or rate <= 0 for rate in rates):
        raise UserError(f"hydra.sweeper.learning_rates is {list(rates)}; it must list numbers above 0, one at least")
    if len(set(rates)) < len(rates):
        raise UserError(f"hydra.sweeper.learning_rates is {list(rates)}; each may occur once")


def _items(key: str, value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise UserError(f"hydra.sweeper.{key} is {value}; it must be a list, such as [{value}]")
    return tuple(value)


def _words(key: str, label: Any, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(split_at_blanks(value))
    if not isinstance(value, Sequence) or not all(isinstance(word, str) for word in value):
        raise UserError(f"hydra.sweeper.{key}.{label} is {value}; it must list words such as cell=lstm")
    return tuple(cast(Sequence[str], value))
