"""Settings of a horizon search, and the rows that it searches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature
from itertools import product
from typing import Annotated, Any, Literal, final, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf

from seqlab.config.build import build_task
from seqlab.config.compose import compose_all
from seqlab.contracts import Examples, Task, UserError
from seqlab.contracts.task import is_fresh, task_defaults
from seqlab.plugins.config import plugin_classes
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.registry import find, plugins
from seqlab.plugins.signature import Ge, Gt, Le, check_value, format_value
from seqlab.study.horizon.search import Batch, DistanceGrid, Rules
from seqlab.sweeps.overrides import expand_each, override_key, split_overrides

Match = Literal["none", "parameters", "state", "flops"]
Protocol = Literal["fixed", "curriculum"]
"""How training lengths are chosen: one length for a run, or lengths that grow as the run learns."""
_Positive = Annotated[int, Ge(1)]
_Natural = Annotated[int, Ge(0)]
_Overrides = dict[str, tuple[str, ...]]


@final
@dataclass(frozen=True)
class Settings:
    """Keys of ``hydra.sweeper``, described in its config file ``horizon.yaml``."""

    start: _Positive = 4
    max_distance: Annotated[int, Ge(1), Le(10**9)] = 1024
    resolution: Annotated[float, Ge(1e-4), Le(1)] = 0.02
    learning_rates: tuple[Annotated[float, Gt(0)], ...] = (0.001, 0.003, 0.01)
    seeds: Annotated[int, Ge(1), Le(1_000)] = 3
    first_seed: _Natural = 0
    confirm_seeds: Annotated[int, Ge(0), Le(1_000)] = 3
    check_budget: bool = True
    match: Match = "none"
    protocols: tuple[Protocol, ...] = ("fixed",)
    stop_when_solved: _Natural = 1
    callbacks: tuple[str, ...] = ("gradient_flow",)
    rows: _Overrides = field(default_factory=dict)
    tasks: _Overrides = field(default_factory=dict)
    only: tuple[str, ...] = ()
    group_replicas: bool = False
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """Settings that all rows share."""
        confirming = self.first_seed + self.seeds
        return Rules(
            DistanceGrid(self.start, self.max_distance, self.resolution),
            self.learning_rates,
            tuple(range(self.first_seed, confirming)),
            tuple(range(confirming, confirming + self.confirm_seeds)),
            self.check_budget,
            further="curriculum" in self.protocols,
        )


def read_settings(node: Mapping[str, Any]) -> Settings:
    """Check the keys of ``hydra.sweeper``.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of range.
    """
    types = get_type_hints(Settings, include_extras=True)
    for key in node:
        if key != "_target_" and key not in types:
            raise UserError(unknown_key(f"hydra.sweeper.{key}", [f"hydra.sweeper.{each}" for each in types]))
    given = {key: value for key, value in node.items() if key in types}
    for key in given.keys() & {"learning_rates", "protocols", "callbacks", "only"}:
        given[key] = _items(key, given[key])
    for key in given.keys() & {"rows", "tasks", "params"}:
        if not isinstance(given[key] or {}, Mapping):
            raise UserError(f"hydra.sweeper.{key} must map names to overrides, got {format_value(given[key])}")
        given[key] = dict(given[key] or {})
    for key in given.keys() & {"rows", "tasks"}:
        given[key] = {str(label): _overrides(f"{key}.{label}", value) for label, value in given[key].items()}
    settings = Settings(**given)
    for key, annotation in types.items():
        check_value(f"hydra.sweeper.{key}", annotation, getattr(settings, key))
    if settings.max_distance < settings.start:
        raise UserError(
            f"hydra.sweeper.max_distance must be >= hydra.sweeper.start={settings.start}, got {settings.max_distance}"
        )
    protocols = settings.protocols
    if not protocols or len(set(protocols)) < len(protocols):
        raise UserError(
            f"hydra.sweeper.protocols must list one or both of {', '.join(get_args(Protocol))},"
            f" got {format_value(list(protocols))}"
        )
    rates = settings.learning_rates
    if not rates or len(set(rates)) < len(rates):
        raise UserError(
            f"hydra.sweeper.learning_rates must list one or more different rates, got {format_value(list(rates))}"
        )
    return settings


def _items(key: str, value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        given = format_value(value)
        raise UserError(f"hydra.sweeper.{key} must be a list, such as [{given}], got {given}")
    return tuple(value)


def _overrides(key: str, value: Any) -> tuple[str, ...]:
    found = split_overrides(value) if isinstance(value, str) else value
    if not isinstance(found, Sequence) or not all(isinstance(each, str) for each in found):
        raise UserError(f"hydra.sweeper.{key} must list overrides such as cell=lstm, got {format_value(value)}")
    return tuple(found)


MULTIPLES = (2, 4, 10, 100)
"""Multiples of its training length at which a trained model is tested by default, if protocols are compared."""

_RATE = "optimizer.lr"
_SET_BY_SEARCH = {
    "task.sequence_length": "hydra.sweeper.start and hydra.sweeper.max_distance",
    _RATE: "hydra.sweeper.learning_rates",
    "seed": "hydra.sweeper.seeds and hydra.sweeper.first_seed",
    "trainer.stop_when_solved": "hydra.sweeper.stop_when_solved",
    "task.lengths": "hydra.sweeper.protocols",
}
"""Keys that the search sets in every run, and the settings that they follow."""


@final
@dataclass(frozen=True)
class Row:
    """A model and task whose horizon is searched: one row of the resulting table.

    Attributes:
        label, task: labels of the model and of the task.
        overrides: of this row alone.
        common: overrides of all rows.
        config: composed for the first distance.
        added: overrides that the search adds to each run.
        sized: override of the hidden size, if it is matched.
        protocol: how its runs choose training lengths.
    """

    label: str
    task: str
    overrides: tuple[str, ...]
    task_overrides: tuple[str, ...]
    common: tuple[str, ...]
    config: DictConfig
    added: tuple[str, ...] = ()
    sized: tuple[str, ...] = ()
    protocol: Protocol = "fixed"

    @property
    def name(self) -> str:
        """Label that ``hydra.sweeper.only`` takes."""
        return f"{self.label}/{self.task}"

    @property
    def sized_by(self) -> str:
        """Group whose ``hidden_size`` sets the model's size: ``cell`` or ``model``."""
        return _sized_by(self.config)

    @property
    def hidden_size(self) -> int | None:
        """Hidden size of the runs; ``None`` for a model without one."""
        if self.sized:
            return int(self.sized[0].partition("=")[2])
        size = self.config[self.sized_by].get("hidden_size")
        return None if size is None else int(size)

    @cached_property
    def has_real_targets(self) -> bool:
        """Whether the task's targets are real numbers and not symbols, by their type in one example."""
        plain = OmegaConf.to_container(self.config.task, resolve=True)
        assert isinstance(plain, dict)
        task = build_task({str(key): value for key, value in plain.items()})
        examples = task.draw(1, 0) if is_fresh(task) else task.splits()["train"]
        return isinstance(examples, Examples) and examples.targets.is_floating_point()

    @property
    def requested(self) -> tuple[str, ...]:
        """Overrides that the user asked for; of equal keys the last, from the command line, counts."""
        return (*self.task_overrides, *self.overrides, *self.sized, *self.common)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Learning rate of this row, if rows differ in it; else none, and the search tries its own."""
        return (float(self.config.optimizer.lr),) if _RATE in map(override_key, self.overrides) else ()

    def longer(self, times: int) -> list[str]:
        """Return the overrides that multiply the training length."""
        lengths = {key: self.config.trainer.get(key) for key in ("max_epochs", "max_steps", "max_minutes")}
        return [f"trainer.{key}={times * length}" for key, length in lengths.items() if length and length > 0]

    def run_overrides(self, batch: Batch, seed: int) -> list[str]:
        """Return the overrides of one run."""
        further = batch.further and "task.eval_multiples" not in map(override_key, self.requested)
        return [
            *(each for each in self.requested if override_key(each) != _RATE),
            *self.added,
            *(_FURTHER if further else ()),
            f"task.sequence_length={batch.distance}",
            f"optimizer.lr={batch.rate}",
            f"seed={seed}",
            *(self.longer(batch.budget) if batch.budget > 1 else ()),
        ]


_FURTHER = (f"task.eval_multiples=[{','.join(map(str, MULTIPLES))}]",)


def _sized_by(config: DictConfig) -> str:
    (target,) = plugin_classes("model", config.model.name)
    uses_cell: bool = target.uses_cell  # type: ignore[attr-defined]  # a model has it
    return "cell" if uses_cell else "model"


def expand_rows(overrides: Sequence[str], settings: Settings) -> list[Row]:
    """Return the rows of a search by these overrides, without Hydra's own; each is composed for the first distance.

    Raises:
        UserError: these overrides make no search.
        hydra.errors.HydraException: a row cannot be composed.
    """
    given = [*(f"{key}={value}" for key, value in settings.params.items()), *overrides]
    for each in given:
        if (key := override_key(each)) in _SET_BY_SEARCH and key != _RATE:
            raise UserError(f"{each}: the search sets this key; set {_SET_BY_SEARCH[key]} instead")
    expanded = expand_each(given)
    for values in expanded:
        if override_key(values[0]) == _RATE and len(values) == 1:
            raise UserError(f"{values[0]}: the search sets this key; set {_SET_BY_SEARCH[_RATE]} instead")
    groups = _split_by_task(expanded)
    of_task, common = (tuple(values[0] for values in group if len(values) == 1) for group in groups)
    task_choices, row_choices = ([values for values in group if len(values) > 1] for group in groups)
    pairs = list(product(_variants(settings.tasks, task_choices), _variants(settings.rows, row_choices)))
    first = f"task.sequence_length={settings.start}"
    runs = [[*task, *own, *of_task, *common, first] for (_, task), (_, own) in pairs]
    rows = []
    for ((task_label, task), (label, own)), config in zip(pairs, compose_all(runs), strict=True):
        label = label or str(config[_sized_by(config)].name)
        rows.append(Row(label, task_label or str(config.task.name), own, (*task, *of_task), common, config))
    rows = _distinct(rows)
    for row in rows:
        _check_task(row, settings)
    rows = [replace(row, protocol=protocol) for row in rows for protocol in settings.protocols]
    return _selected([replace(row, added=tuple(_added(row, settings))) for row in rows], settings.only)


def _split_by_task(expanded: Sequence[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    of_task = [values for values in expanded if override_key(values[0]).partition(".")[0] == "task"]
    return of_task, [values for values in expanded if values not in of_task]


def _brief(override: str) -> str:
    """Return an override without the groups before its last name: ``depth=2`` of ``model.depth=2``."""
    key, equals, value = override.partition("=")
    return f"{key.lstrip('+~').rpartition('.')[2]}{equals}{value}"


def _variants(
    named: Mapping[str, tuple[str, ...]], choices: Sequence[Sequence[str]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield label and overrides of each; an empty label is named by the plugin later."""
    for label, overrides in (named or {"": ()}).items():
        for chosen in product(*choices):
            options = map(_brief, chosen) if label else ()
            yield " ".join([label, *options]), (*overrides, *chosen)


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Add to labels that occur twice the overrides that differ."""
    found: list[Row] = []
    for row in rows:
        same = [other for other in rows if other.name == row.name]
        own = [each for each in row.overrides if any(each not in other.overrides for other in same)]
        task = [each for each in row.task_overrides if any(each not in other.task_overrides for other in same)]
        labels = " ".join([row.label, *map(_brief, own)]), " ".join([row.task, *map(_brief, task)])
        found.append(replace(row, label=labels[0], task=labels[1]))
    return found


def _added(row: Row, settings: Settings) -> Iterator[str]:
    """Yield what the search sets in every run unless the command line or an experiment does.

    Callbacks are for ``fixed`` alone: gradients over the lengths that a curriculum reaches take longer than its runs.
    """
    yield f"trainer.stop_when_solved={settings.stop_when_solved}"
    given = set(map(override_key, row.requested))
    if row.protocol == "curriculum":
        yield "task.lengths=curriculum"
        if "task.start_length" not in given:
            yield f"task.start_length={settings.start}"
    if "trainer.early_stopping" not in given:
        yield "trainer.early_stopping=null"  # a run that does not solve the task uses its whole budget
    if row.config.trainer.progress == "auto":
        yield "trainer.progress=false"
    callbacks = [name for name in settings.callbacks if name in plugins("callback")]
    if callbacks and row.protocol == "fixed" and not row.config.get("callbacks") and "callbacks" not in given:
        yield f"callbacks=[{','.join(callbacks)}]"
        for name in callbacks:  # pictures of hundreds of runs take longer to draw than to train
            (target,) = plugin_classes("callback", name)
            if "picture" in signature(target).parameters:
                yield f"callbacks.{name}.picture=false"


def _check_task(row: Row, settings: Settings) -> None:
    name = str(row.config.task.name)
    if _has_distance(name) and "curriculum" in settings.protocols and "lengths" not in row.config.task:
        raise UserError(f"hydra.sweeper.protocols: task={name} has no task.lengths; leave curriculum out")
    if not _has_distance(name):
        others = ", ".join(filter(_has_distance, plugins("task")))
        raise UserError(f"task={name} has no distance to search over; these have: {others}")


def _has_distance(name: str) -> bool:
    try:
        task: type[Task] = find("task", name).load()
    except UserError:
        return False
    return task_defaults(task).sequence_length_means == "distance"


def _selected(rows: list[Row], only: Sequence[str]) -> list[Row]:
    for label in only:
        if not any(label in (row.label, row.name) for row in rows):
            names = ", ".join(row.name for row in rows)
            raise UserError(f"hydra.sweeper.only has {label}; the rows of this search are {names}")
    return [row for row in rows if not only or row.label in only or row.name in only]
