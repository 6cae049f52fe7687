"""Hidden sizes at which models have equal budgets, counted on the modules that a run would train."""

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
"""Largest hidden size tried."""
_STEPS = (4, 8)
"""Lengths whose difference in cost is that of single steps, without the cost per sequence."""


@final
class SizedModel:
    """Config whose model can be built at any hidden size."""

    def __init__(self, config: DictConfig) -> None:
        self.plain = plain_config(config)
        (model,) = plugin_classes("model", self.plain["model"]["name"])
        uses_cell: bool = model.uses_cell  # type: ignore[attr-defined]  # a model has it
        self.group = "cell" if uses_cell else "model"
        (sized,) = plugin_classes(self.group, self.plain[self.group]["name"])
        self.has_size = any(option.name == "hidden_size" for option in options(sized))
        self.task, self.inputs = _task(self.plain)

    @property
    def hidden_size(self) -> int | None:
        """Hidden size of the config, if it has one."""
        size = self.plain[self.group].get("hidden_size") if self.has_size else None
        return None if size is None else int(size)

    def build(self, hidden_size: int | None) -> Model:
        """Build the model."""
        nodes: dict[str, Any] = dict(self.plain)
        if hidden_size is not None:
            nodes[self.group] = {**nodes[self.group], "hidden_size": hidden_size}
        if nodes.get("kernel") is not None:
            nodes["kernel"] = {"name": "loop"}  # whose products are counted
        with torch.random.fork_rng():
            return build_model(nodes, self.task, self.inputs)

    def count(self, what: Budget, hidden_size: int | None) -> int:
        """Count what the model costs at a hidden size.

        Args:
            what: ``parameters``: trained ones; ``state``: numbers that a sequence carries from step to step; ``flops``:
                multiply-adds of the matrix products and convolutions of one step.
            hidden_size: ``None`` for a model without one.
        """
        model = self.build(hidden_size)
        if what == "parameters":
            return sum(parameter.numel() for parameter in model.parameters())
        if what == "state":
            return model.state_size()
        short, long = (_multiply_adds(model, self.inputs, steps) for steps in _STEPS)
        return round((long - short) / (_STEPS[1] - _STEPS[0]))


def _multiply_adds(model: Model, inputs: InputSpec, steps: int) -> float:
    shape = (1, steps) if inputs.kind == "tokens" else (1, steps, inputs.size)
    values = torch.ones(shape, dtype=torch.int64 if inputs.kind == "tokens" else torch.float32)
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(Batch(values, None, torch.zeros(1)), None)
    flops: int = counter.get_total_flops()
    return flops / 2


def nearest_size(cost: Callable[[int], int], target: int) -> int:
    """Return the size whose cost is nearest to a target, the smaller of two."""

    @cache
    def measured(size: int) -> tuple[int, int]:
        """Return the first possible size from here on, and its cost."""
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


def match_size(config: DictConfig, reference: DictConfig, what: Budget) -> tuple[str | None, int, int]:
    """Choose the hidden size at which a config has the budget of a reference.

    Returns:
        Override, such as ``cell.hidden_size=57`` (``None`` if the budget does not depend on a hidden size), the
        resulting count, and that of the reference.
    """
    own, other = SizedModel(config), SizedModel(reference)
    target = other.count(what, other.hidden_size)
    if target == 0:
        raise UserError(f"hydra.sweeper.match={what}: the first row has none, so no other row can match it")
    size = own.hidden_size
    now = own.count(what, size)
    if size is None or own.count(what, 2 * size) == now:  # the state of model=window, say
        return None, now, target
    size = nearest_size(lambda each: own.count(what, each), target)
    return f"{own.group}.hidden_size={size}", own.count(what, size), target


def _task(plain: Mapping[str, Any]) -> tuple[Task, InputSpec]:
    key = OmegaConf.to_yaml(OmegaConf.create({name: plain[name] for name in ("task", "preprocessing", "data", "seed")}))
    if key not in _PREPARED:
        _PREPARED.clear()
        task, data = prepare_data(dict(plain))
        _PREPARED[key] = task, data.inputs
    return _PREPARED[key]


_PREPARED: dict[str, tuple[Task, InputSpec]] = {}
"""The most recent task, which rows share."""
