"""How a cell is run where there is no seqlab: by torch's own routine, or by a node of ONNX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor


@final
@dataclass(frozen=True)
class Routine:
    r"""What computes the same as a cell over time, given for one cell and the weights that it has now.

    Both sides read four weights, whose first axis is ``gates * hidden``: :math:`W` and :math:`b` from the input,
    :math:`U` and :math:`c` from the state.

    Attributes:
        torch: an operator with the arguments of ``torch.ops.aten.lstm.input`` (a state of two leaves) or
            ``torch.ops.aten.gru.input`` (of one).
        onnx: an operator of ONNX with the inputs X, W, R, B, sequence_lens and initial_h: ``RNN``, ``GRU``, ``LSTM``.
        weights: :math:`W, U, b, c`, the gates in the order of torch's operator.
        gates: for each gate of ONNX's operator, which one of torch's it is; ``(0, 3, 1, 2)`` for an LSTM.
        attributes: further attributes of the node.
        activations: its activations, of one direction; the operator's own if empty.
    """

    torch: Any
    onnx: str
    weights: Sequence[Tensor]
    gates: tuple[int, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)
    activations: tuple[str, ...] = ()
