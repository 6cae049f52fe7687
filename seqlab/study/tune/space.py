"""Search space of a command line: what the plugins declare, and what the overrides fix or add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast, final

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, ValueType
from omegaconf import DictConfig, OmegaConf

from seqlab.config.build import build_preprocessor
from seqlab.config.compose import Composer, configs
from seqlab.contracts import Choice, Interval, Model, UserError
from seqlab.contracts.space import Dimension
from seqlab.contracts.task import linear_baseline
from seqlab.io.formatting import quote_for_hydra
from seqlab.plugins.config import plugin_classes
from seqlab.plugins.kernels import is_own
from seqlab.plugins.registry import plugins
from seqlab.plugins.signature import options

GROUPS = ("model", "cell", "preprocessing")
"""Config groups whose choice may be searched."""
_RATE, _DECAY, _BATCH = "optimizer.lr", "optimizer.weight_decay", "data.batch_size"

Suggest: TypeAlias = Callable[[str, Dimension], Any]
"""Returns a value of a dimension by its name; that of a :class:`.Choice` is the text of an override."""


def value_text(value: Any) -> str:
    """Return a value as an override has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    return quote_for_hydra(value) if isinstance(value, str) else repr(value)


@final
@dataclass(frozen=True)
class Candidate:
    """A plugin to try, and what to vary of it.

    Attributes:
        name: of the plugin.
        dimensions: by option; those of one value are fixed.
        has_optimizer: of a model, whether an optimiser trains it.
        uses_cell: of a model, whether it has cells.
    """

    name: str
    dimensions: dict[str, Dimension]
    has_optimizer: bool = True
    uses_cell: bool = True


@final
@dataclass
class Space:
    """Search space; :meth:`overrides` chooses a point.

    Attributes:
        fixed: overrides of every trial.
        groups: candidates by config group.
        general: dimensions of every trial, by config key.
        trained: the same of trials with an optimiser.
        defaults: by dimension, the value without a search.
        notes: candidates that cannot be used here, and why.
        given: config keys that an override fixed, or whose values it set.
    """

    fixed: list[str]
    groups: dict[str, list[Candidate]]
    general: dict[str, Dimension]
    trained: dict[str, Dimension]
    defaults: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    given: frozenset[str] = frozenset()

    def overrides(self, suggest: Suggest) -> list[str]:
        """Return the overrides of a trial.

        Args:
            suggest: asked for each dimension of more than one value, in an order that depends on its answers only.
        """
        words = list(self.fixed)

        def choose(key: str, name: str, dimension: Dimension) -> None:
            values = dimension.values if isinstance(dimension, Choice) else ()
            words.append(f"{key}={values[0] if len(values) == 1 else suggested(suggest(name, dimension))}")

        def candidate(group: str) -> Candidate:
            known = {each.name: each for each in self.groups[group]}
            name = next(iter(known)) if len(known) == 1 else suggest(group, Choice(tuple(known)))
            words.append(f"{group}={name}")
            for option, dimension in known[name].dimensions.items():
                choose(f"{group}.{option}", f"{group}={name}.{option}", dimension)
            return known[name]

        model = candidate("model")
        if model.uses_cell:
            candidate("cell")
        if self.groups["preprocessing"]:
            candidate("preprocessing")
        for key, dimension in {**self.general, **(self.trained if model.has_optimizer else {})}.items():
            choose(key, key, dimension)
        return words

    def _default(self, name: str, dimension: Dimension) -> Any:
        """Return the value without a search; ``None`` where it is not among those to search."""
        value = self.defaults.get(name)
        if isinstance(dimension, Choice):
            return value if value in dimension.values else None
        is_inside = isinstance(value, int | float) and dimension.low <= value <= dimension.high
        return value if is_inside else None

    def default_overrides(self) -> list[str]:
        """Return the overrides of the trial with the defaults, or the first value where no default is searched."""

        def suggest(name: str, dimension: Dimension) -> Any:
            value = self._default(name, dimension)
            return first_values(name, dimension) if value is None else value

        return self.overrides(suggest)

    def first_overrides(self) -> list[str]:
        """Return the overrides of the trial with the first value of each choice, and the default of an interval."""

        def suggest(name: str, dimension: Dimension) -> Any:
            value = self._default(name, dimension) if isinstance(dimension, Interval) else None
            return first_values(name, dimension) if value is None else value

        return self.overrides(suggest)

    def include(self, group: str, name: str, values: Mapping[str, Any]) -> None:
        """Add values to the choices of a candidate that no override set, so that they are points of the space."""
        for each in self.groups[group]:
            if each.name == name:
                for option, value in values.items():
                    if f"{group}.{option}" not in self.given:
                        each.dimensions[option] = _with_values(each.dimensions.get(option), [value_text(value)])


def suggested(value: Any) -> str:
    """Return a suggestion as the value of an override: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def first_values(_: str, dimension: Dimension) -> Any:
    """Suggest the first value of a choice, and the (geometric) middle of an interval."""
    if isinstance(dimension, Choice):
        return dimension.values[0]
    low, high = dimension.low, dimension.high
    middle = (low * high) ** 0.5 if dimension.log else (low + high) / 2
    return round(middle) if isinstance(low, int) and isinstance(high, int) else middle


def _with_values(dimension: Dimension | None, texts: Sequence[str]) -> Dimension:
    """Add texts to a choice; an interval stays."""
    if isinstance(dimension, Interval):
        return dimension
    known = dimension.values if dimension is not None else ()
    return Choice(tuple(dict.fromkeys([*known, *texts])))


def _as_texts(dimension: Dimension) -> Dimension:
    return Choice(tuple(map(value_text, dimension.values))) if isinstance(dimension, Choice) else dimension


def read_space(overrides: Sequence[str], composer: Composer) -> Space:
    """Read the search space of a command line.

    An override with one value fixes its key; one with several (``cell=lstm,gru``, ``optimizer.lr=interval(1e-4,1e-2)``)
    sets the values to search; everything else is what the plugins declare.

    Raises:
        UserError: an override names nothing, or no candidate has its key.
        hydra.errors.HydraException: an override cannot be composed.
    """
    return _Reader(overrides, composer).read()


def _parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides; ``glob()`` becomes the names that it matches."""
    with configs():
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        found = parser.parse_overrides(list(overrides))
        for place, each in enumerate(found):
            if each.value_type is ValueType.GLOB_CHOICE_SWEEP:
                names = list(each.sweep_string_iterator())
                if not names:
                    raise UserError(f"{each.input_line}: no {each.key_or_group} has such a name")
                found[place] = parser.parse_override(f"{each.key_or_group}={','.join(names)}")
    return found


class _Reader:
    """Reader of a search space."""

    def __init__(self, overrides: Sequence[str], composer: Composer) -> None:
        self._composer = composer
        parsed = _parsed(overrides)
        self._given = {str(each.key_or_group): each for each in parsed}
        self._fixed = [
            str(each.input_line) for each in self._given.values() if not each.is_sweep_override() and not _is_part(each)
        ]
        if (task := self._given.get("task")) is not None and task.is_sweep_override():
            raise UserError(f"{task.input_line}: scores of several tasks are not comparable; name one task")
        self._base = composer.checked(self._fixed)
        self._task: Any = plugin_classes("task", self._base.task.name)[0]
        self._used: set[str] = set()
        self._defaults: dict[str, Any] = {}
        self._notes: list[str] = []

    def read(self) -> Space:
        declared = dict(getattr(self._task, "search_space", dict)())
        groups = {"model": self._candidates("model", declared.pop("model", None))}
        models = [plugin for each in groups["model"] for plugin in plugin_classes("model", each.name)]
        cells = [cells for model in models if (cells := _space_of(model).get("cell")) is not None]
        with_cell = any(each.uses_cell for each in groups["model"])
        groups["cell"] = self._candidates("cell", cells[0] if cells else None) if with_cell else []
        texts = declared.pop("preprocessing", None)
        has_texts = self._base.preprocessing is not None
        groups["preprocessing"] = self._candidates("preprocessing", texts) if has_texts else []
        general = {f"task.{option}": each for option, each in declared.items()}
        found = {key: self._dimension(key, each, self._base) for key, each in general.items()}
        trained = {key: self._dimension(key, each, self._base) for key, each in self._training().items()}
        for key, given in self._given.items():
            if given.is_sweep_override() and key not in (*GROUPS, *found, *trained, *self._used):
                if _is_part(given):
                    raise UserError(f"{given.input_line}: no candidate of {key.partition('.')[0]} has this option")
                found[key] = _swept(given)
        for key, given in self._given.items():
            if _is_part(given) and key not in self._used:
                raise UserError(f"{given.input_line}: no candidate of {key.partition('.')[0]} has this option")
        fixed = {key for key, given in self._given.items() if not given.is_sweep_override()}
        kept = [{key: each for key, each in part.items() if key not in fixed} for part in (found, trained)]
        return Space(self._fixed_words(), groups, kept[0], kept[1], self._defaults, self._notes, frozenset(self._given))

    def _fixed_words(self) -> list[str]:
        return [word for word in self._fixed if word.partition("=")[0] not in GROUPS]

    def _training(self) -> dict[str, Dimension]:
        """Return the dimensions of the optimiser and the batch size, around their defaults."""
        optimizer, batch = self._base.optimizer, self._base.data.batch_size
        chosen, found = self._given.get("optimizer"), dict[str, Dimension]()
        if (chosen is None or not chosen.is_sweep_override()) and optimizer.lr > 0:  # else each has its own defaults
            found[_RATE] = Interval(optimizer.lr / 10, optimizer.lr * 4, log=True)
            if (decay := optimizer.get("weight_decay")) is not None:
                found[_DECAY] = Choice((decay, 0.0, 4 * decay or 0.05))
        found[_BATCH] = Choice((batch, *(size for size in (64, 128, 256) if size != batch)))
        return found

    def _candidates(self, group: str, declared: Dimension | None) -> list[Candidate]:
        """Return the candidates of a group: those given, else those declared, and the cells of other distributions."""
        given, default = self._given.get(group), str(self._base[group].name)
        self._defaults[group] = default
        if given is not None:
            names = list(_swept(given).values) if given.is_sweep_override() else [default]
        elif declared is None or "experiment" in self._given:
            names = [default]
        else:
            names = [default, *declared.values] if isinstance(declared, Choice) else [default]
            if group == "cell":
                names += [name for name, plugin in plugins("cell").items() if not is_own(plugin)]
        found = []
        for name in dict.fromkeys(map(str, names)):
            try:
                found.append(self._candidate(group, name))
            except UserError as error:
                if given is not None or name == default:
                    raise
                self._notes.append(f"{group}={name} is not searched: {error}")
        return found

    def _candidate(self, group: str, name: str) -> Candidate:
        classes: list[Any] = plugin_classes(group, name)
        config = self._composer.checked([*self._without(group), f"{group}={name}"])
        if group == "preprocessing":
            build_preprocessor(cast(Any, OmegaConf.to_container(config.preprocessing, resolve=True)))
        declared = {key: each for plugin in classes for key, each in _space_of(plugin).items() if key != "cell"}
        if self._task.per_step is True:
            declared.pop("bidirectional", None)  # the backward direction reads what a step may have to predict
        known = {option.name for plugin in classes for option in options(plugin) if not option.supplied}
        for key in self._given:
            part, _, option = key.partition(".")
            if part == group and option.partition(".")[0] in known:
                self._used.add(key)
                declared.setdefault(option, Choice((None,)))
        dimensions = {
            option: self._dimension(f"{group}.{option}", each, config, f"{group}={name}.{option}")
            for option, each in declared.items()
        }
        model = classes[0]
        if group != "model":
            return Candidate(name, dimensions)
        return Candidate(name, dimensions, model.fit is Model.fit, model.uses_cell)

    def _without(self, group: str) -> list[str]:
        return [word for word in self._fixed if word.partition("=")[0] != group]

    def _dimension(self, key: str, declared: Dimension, config: DictConfig, name: str | None = None) -> Dimension:
        """Return what was given for a key, else what is declared, with the default of the config added."""
        given, default = self._given.get(key), OmegaConf.select(config, key)
        plain: Any = OmegaConf.to_container(default) if OmegaConf.is_config(default) else default
        if given is None:
            found = _with_values(_as_texts(declared), [value_text(plain)])
        else:
            found = _swept(given, plain) if given.is_sweep_override() else Choice((given.get_value_element_as_str(),))
        self._defaults[name or key] = plain if isinstance(found, Interval) else value_text(plain)
        return found


def _space_of(plugin: Any) -> Mapping[str, Dimension]:
    return cast(Mapping[str, Dimension], plugin.search_space()) if hasattr(plugin, "search_space") else {}


def _is_part(override: Override) -> bool:
    """Return whether an override is of an option of a plugin that may be searched, such as ``model.depth``."""
    group, dot, _ = str(override.key_or_group).partition(".")
    return bool(dot) and group in GROUPS


def _swept(override: Override, default: Any = None) -> Any:
    """Return the dimension of an override with several values; between whole numbers it has integers if a default is.

    Raises:
        UserError: its interval is empty.
    """
    value = override.value()
    if not isinstance(value, IntervalSweep):
        return Choice(tuple(str(each) for each in override.sweep_string_iterator()))
    low, high = value.start or 0, value.end or 0
    if type(default) is int and low == int(low) and high == int(high):  # Hydra's intervals are of floats
        low, high = int(low), int(high)
    try:
        return Interval(low, high, log="log" in value.tags)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error


def linear_overrides(space: Space, task: Any) -> list[str] | None:
    """Return the overrides of the task's linear baseline, whose values are added to the space.

    Args:
        space: of the search.
        task: after it read its data.

    Returns:
        ``None`` where the task has no such baseline, or its model is not among the candidates.
    """
    nodes = linear_baseline(task)
    if nodes is None:
        return None
    words = list(space.fixed)
    for group in ("model", "preprocessing"):
        name, values = nodes[group]["name"], {key: each for key, each in nodes[group].items() if key != "name"}
        if name not in [each.name for each in space.groups[group]]:
            return None
        space.include(group, name, values)
        words += [f"{group}={name}", *(f"{group}.{option}={value_text(each)}" for option, each in values.items())]
    return words
