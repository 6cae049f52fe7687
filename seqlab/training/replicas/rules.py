"""Update rules of torch's optimisers for the parameters of several replicas at once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

STATES: Mapping[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.RMSprop: ("square_avg", "momentum_buffer", "grad_avg"),
}
"""Tensors that an optimiser may keep for each parameter, by torch's names."""
_UNSUPPORTED = ("maximize", "capturable", "differentiable")


def states_of(kind: type[torch.optim.Optimizer], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tensors that an optimiser keeps for each parameter with these options of a group."""
    wanted = {"max_exp_avg_sq": options.get("amsgrad"), "momentum_buffer": options.get("momentum")}
    wanted["grad_avg"] = options.get("centered")
    return tuple(name for name in STATES[kind] if wanted.get(name, True))


def refusal(optimizer: torch.optim.Optimizer) -> str | None:
    """Return why the updates of an optimiser cannot be batched; ``None`` where they can."""
    if type(optimizer) not in STATES:
        return f"{type(optimizer).__name__} has no batched update"
    for group in optimizer.param_groups:
        if found := [name for name in _UNSUPPORTED if group.get(name)]:
            return f"the optimiser's option {found[0]} has no batched update"
    return None


def update(
    kind: type[torch.optim.Optimizer],
    options: Mapping[str, Any],
    parameters: Tensor,
    gradients: Tensor,
    state: Mapping[str, Tensor],
    steps: Tensor,
    rates: Mapping[str, Tensor],
) -> None:
    """Update the parameters of a group and the optimiser's state, in place, as torch's optimisers do.

    Args:
        kind: the optimiser.
        options: of the group, the same for all replicas.
        parameters: ``[replica, parameter]``.
        gradients: of the same shape; changed.
        state: tensors of the same shape, by torch's names.
        steps: number of this step for each replica, from 1 on, ``[replica, 1]``, on the CPU in float64.
        rates: ``lr`` and ``weight_decay`` of each replica, the same.
    """
    lr, decay = rates["lr"], rates["weight_decay"]
    if kind is torch.optim.AdamW:
        parameters.mul_((1 - lr * decay).to(parameters))
    elif bool(decay.any()):
        gradients.add_(decay.to(parameters) * parameters)
    if kind is torch.optim.SGD:
        _sgd(options, parameters, gradients, state, steps, lr)
    elif kind is torch.optim.RMSprop:
        _rmsprop(options, parameters, gradients, state, lr)
    else:
        _adam(options, parameters, gradients, state, steps, lr)


def _adam(
    options: Mapping[str, Any], parameters: Tensor, gradients: Tensor, state: Mapping[str, Tensor], steps: Tensor,
    lr: Tensor,
) -> None:  # fmt: skip
    beta1, beta2 = options["betas"]
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(gradients, 1 - beta1)
    square.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    if options["amsgrad"]:
        square = torch.maximum(state["max_exp_avg_sq"], square, out=state["max_exp_avg_sq"])
    size, root = lr / (1 - beta1**steps), (1 - beta2**steps).sqrt()
    divisor = square.sqrt().div_(root.to(square)).add_(options["eps"])
    parameters.sub_((mean / divisor).mul_(size.to(mean)))


def _sgd(
    options: Mapping[str, Any], parameters: Tensor, gradients: Tensor, state: Mapping[str, Tensor], steps: Tensor,
    lr: Tensor,
) -> None:  # fmt: skip
    if momentum := options["momentum"]:
        buffer = state["momentum_buffer"]
        share = torch.where(steps > 1, 1 - options["dampening"], 1.0).to(buffer)  # the first gradient counts whole
        buffer.mul_(momentum).add_(share * gradients)
        gradients = gradients + momentum * buffer if options["nesterov"] else buffer
    parameters.sub_(lr.to(parameters) * gradients)


def _rmsprop(
    options: Mapping[str, Any], parameters: Tensor, gradients: Tensor, state: Mapping[str, Tensor], lr: Tensor
) -> None:
    square = state["square_avg"].mul_(options["alpha"]).addcmul_(gradients, gradients, value=1 - options["alpha"])
    if options["centered"]:
        mean = state["grad_avg"].lerp_(gradients, 1 - options["alpha"])
        square = square.addcmul(mean, mean, value=-1)
    gradients = gradients / square.sqrt().add_(options["eps"])
    if options["momentum"]:
        gradients = state["momentum_buffer"].mul_(options["momentum"]).add_(gradients)
    parameters.sub_(lr.to(parameters) * gradients)
