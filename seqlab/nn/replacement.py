"""Replacement of the recurrent modules of ``torch.nn`` inside a model."""

from typing import NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from seqlab.contracts import Kernel
from seqlab.nn.modules import GRU, LSTM, RNN
from seqlab.recurrence.torch_modules import FastModule, refusal

_FAST: dict[type[nn.Module], type[FastModule]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}


class Replacement(NamedTuple):
    """What :func:`replace` did to one module.

    Attributes:
        name: its name in the model; empty for the model itself.
        module: its class before.
        kept: why it was left as it was; ``None`` if it was replaced.
    """

    name: str
    module: str
    kept: str | None

    def __str__(self) -> str:
        done = "replaced" if self.kept is None else f"kept: {self.kept}"
        return f"{self.name or 'the model'} ({self.module}): {done}"


def replace(model: nn.Module, kernel: str | Kernel = "auto") -> list[Replacement]:
    """Make every ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` of a model that of :mod:`seqlab.nn`, in place.

    Modules and parameters stay the same objects, so that optimisers, hooks, tied weights and state dicts stay valid.

    Args:
        model: any module.
        kernel: of the replaced modules.

    Returns:
        An entry for each recurrent module of torch, in the order of ``model.named_modules()``.
    """
    done = []
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            kept = _reason(module)
            done.append(Replacement(name, type(module).__name__, kept))
            if kept is None:
                module.__class__ = _FAST[type(module)]
                assert isinstance(module, FastModule)
                module.use_kernel(kernel)
    return done


def _reason(module: nn.RNNBase) -> str | None:
    if isinstance(module, FastModule):
        return "it is one of seqlab.nn"
    if parametrize.is_parametrized(module):
        return "its weights are parametrised"
    return refusal(module)
