"""A limit on what a constructor makes, while a model is built from a file that a stranger may have written."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from seqlab.errors import UserError

_SLACK = 2**20
"""Numbers that a model may have beyond those in its file: tables that are not saved."""
_PARTS = 20_000


@contextmanager
def budget(numbers: int, where: str) -> Iterator[None]:
    """Refuse a model that grows far larger than the weights that it is to take, as soon as it does.

    torch reserves memory for a parameter when it is made, and uses it when it is filled: by then this has looked.

    Args:
        numbers: in the file of weights.
        where: what an error begins with.

    Raises:
        UserError: the model is too large.
    """
    most, made, parts = 4 * numbers + _SLACK, 0, 0

    def weigh(_module: nn.Module, _name: str, tensor: Any) -> None:
        nonlocal made
        made += tensor.numel() if isinstance(tensor, Tensor) else 0
        if made > most:
            raise UserError(f"{where} describes a model of more than {made:,} numbers, and its weights are {numbers:,}")

    def count(_module: nn.Module, _name: str, _part: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > _PARTS + numbers:
            raise UserError(f"{where} describes a model of more than {parts:,} parts, and its weights are {numbers:,}")

    handles = [
        hooks.register_module_parameter_registration_hook(weigh),
        hooks.register_module_buffer_registration_hook(weigh),
        hooks.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
