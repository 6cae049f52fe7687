"""Parameters and optimiser states of several replicas in one tensor each."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqlab.training.replicas.rules import states_of, update


class Member(NamedTuple):
    """A model and its optimiser."""

    model: nn.Module
    optimizer: Optimizer


def layout(member: Member) -> list[tuple[str, torch.Size, torch.dtype, int]]:
    """Return name, shape, dtype and group of each trained parameter, group by group; equal for replicas."""
    names = {id(parameter): name for name, parameter in member.model.named_parameters()}
    return [
        (names[id(parameter)], parameter.shape, parameter.dtype, index)
        for index, group in enumerate(member.optimizer.param_groups)
        for parameter in group["params"]
    ]


@final
class Stack:
    """Trained parameters and optimiser states, ``[replica, parameter]``, of which models and optimisers have views.

    Each model and optimiser stays usable by itself, so that validation and checkpoints need no copy.

    Args:
        members: of one :func:`layout`, optimisers of one type with the same options apart from the rates.

    Attributes:
        values: the parameters, flat.
        steps: updates of each replica so far.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        found = layout(members[0])
        self.names = [name for name, *_ in found]
        self.shapes = [shape for _, shape, _, _ in found]
        self.sizes = [shape.numel() for shape in self.shapes]
        groups = [group for *_, group in found]
        ends = [
            sum(size for size, own in zip(self.sizes, groups, strict=True) if own <= each)
            for each in range(-1, max(groups) + 1)
        ]
        self.segments = [slice(begin, end) for begin, end in pairwise(ends)]
        self.values = torch.stack([_flat(_parameters(each)) for each in members])
        kind, options = type(members[0].optimizer), members[0].optimizer.param_groups[0]
        self.states = {name: torch.zeros_like(self.values) for name in states_of(kind, options)}
        counts = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32  # as torch counts
        self.steps = torch.tensor([_steps(each.optimizer) for each in members], dtype=counts)
        for row, member in enumerate(members):
            self._bind(row, member)

    def _bind(self, row: int, member: Member) -> None:
        """Make parameters and states views of a row; a missing state is zero."""
        begin = 0
        for parameter, size in zip(_parameters(member), self.sizes, strict=True):
            own = slice(begin, begin := begin + size)
            parameter.data = self.values[row, own].view(parameter.shape)
            state = member.optimizer.state[parameter]
            if not isinstance(member.optimizer, torch.optim.SGD):
                state["step"] = self.steps[row]
            for name, stacked in self.states.items():
                view = stacked[row, own].view(parameter.shape)
                if isinstance(before := state.get(name), Tensor):
                    view.copy_(before)
                state[name] = view

    def release(self, member: Member) -> None:
        """Give a model and its optimiser tensors of their own."""
        for parameter in _parameters(member):
            parameter.data = parameter.data.clone()
            state = member.optimizer.state[parameter]
            state |= {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}

    def parameters(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Return the parameters ``[replica, ...]`` by name, as leaves that require a gradient."""
        values = self.values if rows is None else self.values[rows]
        parts = torch.split(values, self.sizes, dim=1)
        named = zip(self.names, parts, self.shapes, strict=True)
        return {name: part.view(len(values), *shape).detach().requires_grad_() for name, part, shape in named}

    def flat(self, parts: Sequence[Tensor]) -> Tensor:
        """Return ``[replica, parameter]`` of tensors ``[replica, ...]``, such as gradients of :meth:`parameters`."""
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def update(self, gradients: Tensor, accepted: Sequence[bool]) -> None:
        """Update the parameters of the accepted replicas by the rules of their optimisers.

        Args:
            gradients: ``[replica, parameter]``; changed.
            accepted: of each replica; the others keep parameters and state.
        """
        if not any(accepted):
            return
        rows = None if all(accepted) else torch.tensor(accepted).nonzero()[:, 0]
        values, states = self.values, self.states
        if rows is not None:  # copies, written back below
            values, gradients = values[rows], gradients[rows]
            states = {name: state[rows] for name, state in states.items()}
        self.steps += torch.tensor(accepted, dtype=self.steps.dtype)
        steps = (self.steps if rows is None else self.steps[rows]).double().unsqueeze(1)
        chosen = [member.optimizer for member, own in zip(self.members, accepted, strict=True) if own]
        for index, segment in enumerate(self.segments):
            if segment.start == segment.stop:
                continue
            rates = {
                key: torch.tensor([[each.param_groups[index][key]] for each in chosen], dtype=torch.float64)
                for key in ("lr", "weight_decay")
            }
            own = {name: state[:, segment] for name, state in states.items()}
            options: dict[str, Any] = chosen[0].param_groups[index]
            update(type(chosen[0]), options, values[:, segment], gradients[:, segment], own, steps, rates)
        if rows is not None:
            self.values[rows] = values
            for name, state in states.items():
                self.states[name][rows] = state


def _parameters(member: Member) -> list[nn.Parameter]:
    return [parameter for group in member.optimizer.param_groups for parameter in group["params"]]


def _flat(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def _steps(optimizer: Optimizer) -> float:
    """Return the number of updates so far; of SGD, which counts none, whether there was one."""
    states = [state for state in optimizer.state.values() if state]
    if not states:
        return 0.0
    return max(
        float(state["step"]) if "step" in state else float(state.get("momentum_buffer") is not None) for state in states
    )
