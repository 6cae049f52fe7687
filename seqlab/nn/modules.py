"""Modules with the parameters and arguments of ``torch.nn`` and the kernels of seqlab."""

from typing import Any, Literal, final

from torch import nn

from seqlab.contracts import Kernel
from seqlab.recurrence.torch_modules import FastModule


@final
class LSTM(FastModule, nn.LSTM):
    """``torch.nn.LSTM`` on seqlab's kernels; initial weights, parameters and state dict are torch's.

    Padded input may have ``lengths`` (:meth:`.FastModule.forward`), which costs less than packing.

    Args:
        input_size: features of one input step.
        hidden_size: features of ``h`` and of ``c``.
        num_layers: number of layers.
        bias: whether the layers have biases.
        batch_first: whether input and output are ``[batch, time, ...]`` instead of ``[time, batch, ...]``.
        dropout: probability of dropping an output between two layers, in training.
        bidirectional: whether each layer reads in both directions.
        proj_size: 0; another value is refused.
        device: of the parameters.
        dtype: of the parameters.
        kernel: ``auto``, ``loop``, ``compiled``, or the name of a registered kernel.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        kernel: str | Kernel = "auto",
    ) -> None:
        _refuse_projection(proj_size)
        options = (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *options, device=device, dtype=dtype)
        self.use_kernel(kernel)


@final
class GRU(FastModule, nn.GRU):
    """``torch.nn.GRU`` on seqlab's kernels; initial weights, parameters and state dict are torch's.

    Args:
        input_size: features of one input step.
        hidden_size: features of ``h``.
        num_layers: number of layers.
        bias: whether the layers have biases.
        batch_first: whether input and output are ``[batch, time, ...]`` instead of ``[time, batch, ...]``.
        dropout: probability of dropping an output between two layers, in training.
        bidirectional: whether each layer reads in both directions.
        proj_size: 0; another value is refused.
        device: of the parameters.
        dtype: of the parameters.
        kernel: ``auto``, ``loop``, ``compiled``, or the name of a registered kernel.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        kernel: str | Kernel = "auto",
    ) -> None:
        _refuse_projection(proj_size)
        options = (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *options, device=device, dtype=dtype)
        self.use_kernel(kernel)


@final
class RNN(FastModule, nn.RNN):
    """``torch.nn.RNN`` on seqlab's kernels; initial weights, parameters and state dict are torch's.

    Args:
        input_size: features of one input step.
        hidden_size: features of ``h``.
        num_layers: number of layers.
        nonlinearity: ``tanh`` or ``relu``.
        bias: whether the layers have biases.
        batch_first: whether input and output are ``[batch, time, ...]`` instead of ``[time, batch, ...]``.
        dropout: probability of dropping an output between two layers, in training.
        bidirectional: whether each layer reads in both directions.
        proj_size: 0; another value is refused.
        device: of the parameters.
        dtype: of the parameters.
        kernel: ``auto``, ``loop``, ``compiled``, or the name of a registered kernel.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        kernel: str | Kernel = "auto",
    ) -> None:
        _refuse_projection(proj_size)
        options = (num_layers, nonlinearity, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *options, device=device, dtype=dtype)
        self.use_kernel(kernel)


def _refuse_projection(proj_size: int) -> None:
    if proj_size:
        raise ValueError(f"proj_size must be 0, got {proj_size}: use torch.nn.LSTM, or a Linear behind the layer")
