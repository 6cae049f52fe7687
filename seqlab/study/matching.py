"""Hidden sizes at which models are of equal budget, counted on the modules that a run would train."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, final

import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from seqlab.config.build import build_model
from seqlab.config.schema import plain_config
from seqlab.contracts import Batch, InputSpec, Model, Task, UserError
from seqlab.plugins.config import plugin_classes
from seqlab.plugins.signature import options
from seqlab.training.session import prepare_data

Budget = Literal["parameters", "state", "flops"]

_LARGEST = 2**15
"""Hidden size beyond which nobody looks."""
_STEPS = (4, 8)
"""Lengths whose difference is the work of a step, without what is done once a sequence."""


@final
class Sized:
    """A config whose model can be built at any hidden size.

    Args:
        config: composed; its task gives inputs and outputs.

    Raises:
        UserError: the task's data cannot be had.
    """

    def __init__(self, config: DictConfig) -> None:
        self.plain = plain_config(config)
        (model,) = plugin_classes("model", self.plain["model"]["name"])
        uses_cell: bool = model.uses_cell  # type: ignore[attr-defined]  # a model has it
        self.group = "cell" if uses_cell else "model"
        (sized,) = plugin_classes(self.group, self.plain[self.group]["name"])
        self.has_size = any(option.name == "hidden_size" for option in options(sized))
        self.task, self.inputs = _task(config)

    @property
    def hidden_size(self) -> int | None:
        """The one that the config has."""
        size = self.plain[self.group].get("hidden_size") if self.has_size else None
        return None if size is None else int(size)

    def model(self, hidden_size: int | None) -> Model:
        """Build the model.

        Raises:
            UserError: it cannot have this size.
        """
        nodes: dict[str, Any] = dict(self.plain)
        if hidden_size is not None:
            nodes[self.group] = {**nodes[self.group], "hidden_size": hidden_size}
        if nodes.get("kernel") is not None:
            nodes["kernel"] = {"name": "loop"}  # whose products are counted
        with torch.random.fork_rng():
            return build_model(nodes, self.task, self.inputs)


def count(sized: Sized, what: Budget, hidden_size: int | None) -> int:
    """Count what a model costs at a hidden size.

    Args:
        sized: the config.
        what: ``parameters``, trained ones; ``state``: numbers that a sequence carries from a step to the next;
            ``flops``: multiply-adds of the matrix products and convolutions of one step.
        hidden_size: ``None`` for a model that has none.

    Raises:
        UserError: the model cannot have this size.
    """
    model = sized.model(hidden_size)
    if what == "parameters":
        return sum(parameter.numel() for parameter in model.parameters())
    if what == "state":
        return model.state_size()
    short, long = (_multiply_adds(model, sized.inputs, steps) for steps in _STEPS)
    return round((long - short) / (_STEPS[1] - _STEPS[0]))


def _multiply_adds(model: Model, inputs: InputSpec, steps: int) -> float:
    shape = (1, steps) if inputs.kind == "tokens" else (1, steps, inputs.size)
    values = torch.ones(shape, dtype=torch.int64 if inputs.kind == "tokens" else torch.float32)
    batch = Batch(values, None, torch.zeros(1))
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch, None)
    flops: int = counter.get_total_flops()
    return flops / 2


def nearest(cost: Callable[[int], int], target: int) -> int:
    """Find the size whose cost comes nearest to a target; of two equally near the smaller.

    Args:
        cost: grows with the size; raises :class:`UserError` for a size that cannot be.
        target: what it should be.
    """

    @cache
    def measured(size: int) -> tuple[int, int]:
        """The first possible size from here on, and its cost."""
        for larger in range(size, size + 64):
            try:
                return larger, cost(larger)
            except UserError:
                continue
        raise UserError(f"no hidden size from {size} to {size + 63} is possible")

    high = 1
    while measured(high)[1] < target and high < _LARGEST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if measured(middle)[1] < target else (low, middle)
    around = sorted({measured(max(1, size)) for size in (low, high)})
    return min(around, key=lambda found: abs(found[1] - target))[0]


def matched(config: DictConfig, reference: DictConfig, what: Budget) -> tuple[str | None, int, int]:
    """Choose the hidden size at which a config costs what a reference costs as it is.

    Returns:
        The word that sets it, such as ``cell.hidden_size=57`` (``None`` for a model without such an option, which stays
        as it is), its count then, and the reference's.

    Raises:
        UserError: the reference has none of what is to be equal, or no size is possible.
    """
    own, other = Sized(config), Sized(reference)
    target = count(other, what, other.hidden_size)
    if target == 0:
        raise UserError(f"hydra.sweeper.match={what}: the first row has none, so that no other can have as much")
    now = count(own, what, own.hidden_size)
    if own.hidden_size is None or count(own, what, 2 * own.hidden_size) == now:  # a window's state, say
        return None, now, target
    size = nearest(lambda each: count(own, what, each), target)
    return f"{own.group}.hidden_size={size}", count(own, what, size), target


def _task(config: DictConfig) -> tuple[Task, InputSpec]:
    plain = plain_config(config)
    key = OmegaConf.to_yaml(OmegaConf.create({name: plain[name] for name in ("task", "preprocessing", "data", "seed")}))
    if key not in _PREPARED:
        _PREPARED.clear()
        task, data = prepare_data(plain)
        _PREPARED[key] = task, data.inputs
    return _PREPARED[key]


_PREPARED: dict[str, tuple[Task, InputSpec]] = {}
"""The task that was asked for last, which the rows share."""


def sizes(config: DictConfig) -> Mapping[str, int | None]:
    """Give hidden size, parameters and state of a config's model as it is."""
    sized = Sized(config)
    size = sized.hidden_size
    return {
        "hidden_size": size,
        "parameters": count(sized, "parameters", size),
        "state_size": count(sized, "state", size),
    }
