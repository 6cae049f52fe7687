"""Recurrent modules of ``torch.nn`` computed by seqlab's cells and kernels over the modules' own parameters."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import set_eval_frame
from torch.autograd import forward_ad
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from seqlab.contracts import Cell, Kernel
from seqlab.contracts.batch import Lengths
from seqlab.plugins.torch_modules import torch_cell
from seqlab.recurrence.recurrent import Recurrent
from seqlab.recurrence.selection import Choice, CompilePolicy

KINDS: tuple[type[nn.RNNBase], ...] = (nn.RNN, nn.LSTM, nn.GRU)

CALLS = 10_000
"""Calls of a layer in one training, about: a kernel is compiled where so many calls save the time that it takes."""
FEW_STEPS = 4
"""Shorter input is left to torch's routine, whose single call costs less than what another kernel saves."""
MOST_ROUTES = 256
"""Shapes for which a module remembers whether torch's routine is the fastest."""


class FastModule(nn.RNNBase):
    """Base class of the modules of :mod:`seqlab.nn`: parameters and arguments are torch's, the kernels seqlab's.

    Attributes:
        kernel: as of :class:`seqlab.Recurrent`.
    """

    kernel: str | Kernel
    _network: Recurrent
    _routine: type[Kernel]
    _routes: dict[Any, Choice | None]

    def use_kernel(self, kernel: str | Kernel) -> None:
        """Prepare the forward pass."""
        self.kernel = kernel
        network = borrowing(self)
        network.policy = CompilePolicy(CALLS)
        kind = torch_kind(self)
        assert kind is not None
        self._routine, self._routes = torch_cell(kind).routine, {}
        self.__dict__["_network"] = network  # no submodule: the module has the parameters and no children, as in torch

    def use_policy(self, policy: CompilePolicy) -> None:
        """Share the decisions of a run on kernels."""
        self._network.policy, self._routes = policy, {}

    @property
    def choice(self) -> Choice | None:
        """The kernel of the last call and why it was taken; ``None`` before, and where ``torch.compile`` traced it."""
        return self._network.choice

    def forward(self, input: Any, hx: Any = None, lengths: Lengths | None = None) -> tuple[Any, Any]:
        r"""Run over a batch.

        Args:
            input: ``[time, batch, input_size]``, with ``batch_first`` ``[batch, time, input_size]``, unbatched
                ``[time, input_size]``, or packed.
            hx: the initial state ``h0`` or ``(h0, c0)``, ``[num_layers * directions, batch, hidden_size]`` (unbatched:
                without ``batch``); zeros if ``None``.
            lengths: valid steps of each row of padded input, 0 to ``time``: a list, a tuple, an array or a tensor;
                ``None`` where every row is full.

        Returns:
            Outputs ``[time, batch, directions * hidden_size]`` in the form of the input, zero beyond ``lengths``, and
            the state after each row's last valid step in the form of ``hx``.

        Raises:
            ValueError: the input has not two or three axes, or another dtype; ``lengths`` do not fit it; or the named
                kernel refuses it.
            RuntimeError: the input or ``hx`` has another shape.
        """
        if torch.compiler.is_compiling():
            return self._run(input, hx, lengths)
        # torch.compile breaks its graph at the recurrent modules of torch; it must not compile their parts one by one.
        compiler = set_eval_frame(None)
        try:
            return self._run(input, hx, lengths)
        finally:
            set_eval_frame(compiler)

    def _run(self, input: Any, hx: Any, lengths: Lengths | None) -> tuple[Any, Any]:
        network, is_traced = self._network, torch.compiler.is_compiling()
        # A compiled or exported program has the operators of torch alone.
        kernel = self._routine() if is_traced else self.kernel
        if network.kernel != kernel:
            network.kernel = kernel
        if lengths is None and isinstance(input, Tensor):
            choice = None if is_traced else self._torch_choice(input)
            if is_traced or choice is not None:
                network.choice = choice
                result: tuple[Any, Any] = super().forward(input, hx)
                return result
        return call_module(self, network, input, hx, lengths)

    def _torch_choice(self, input: Tensor) -> Choice | None:
        """Return the choice of torch's routine, called once for all layers, where it is that of the first layer."""
        if self.kernel != "auto" or input.dim() not in (2, 3):
            return None
        if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            return self._choose(input)
        weight, kind = self.weight_hh_l0, input.device.type
        lowered = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        key = (input.shape, input.dtype, input.device, weight.dtype, weight.device, lowered, torch.get_num_threads())
        if key not in self._routes:  # a tenth of a millisecond, the time of a small layer
            if len(self._routes) == MOST_ROUTES:
                self._routes.clear()
            steps = input.shape[1 if self.batch_first and input.dim() == 3 else 0]
            is_short = steps < FEW_STEPS and not lowered
            self._routes[key] = Choice(self._routine(), "few steps") if is_short else self._choose(input)
        return self._routes[key]

    def _choose(self, input: Tensor) -> Choice | None:
        x = input if input.dim() == 3 else input.unsqueeze(0 if self.batch_first else 1)
        choice = self._network.choose(x.transpose(0, 1) if self.batch_first else x)
        return choice if isinstance(choice.kernel, self._routine) else None

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]  # torch's
        for name in ("_network", "_routine", "_routes"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch's
        self.use_kernel(self.kernel)

    def _replicate_for_data_parallel(self) -> "FastModule":
        replica: FastModule = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]  # torch's
        replica.use_kernel(self.kernel)
        return replica


def torch_kind(module: nn.Module) -> type[nn.RNNBase] | None:
    """Return which of ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` a module computes; ``None`` for others and subclasses."""
    kind = parametrize.type_before_parametrizations(module)
    if isinstance(module, FastModule):
        kind = next(base for base in kind.__mro__ if base in KINDS)
    return kind if kind in KINDS else None


def refusal(module: nn.RNNBase) -> str | None:
    """Return why seqlab's cells do not compute a module; ``None`` if they do."""
    if torch_kind(module) is None:
        return f"{type(module).__name__} is a subclass, which may compute something else"
    if module.proj_size:
        return f"proj_size={module.proj_size}: seqlab has no projection of h"
    if "forward" in vars(module):
        return "its forward was replaced"
    return None


def borrowing(module: nn.RNNBase, kernel: str | Kernel = "auto") -> Recurrent:
    """Make the network, time first, that computes a module over the module's own parameters.

    Args:
        module: not refused.
        kernel: of the network.
    """
    kind = torch_kind(module)
    assert kind is not None
    cell = torch_cell(kind)
    ends = ("", "_reverse") if module.bidirectional else ("",)
    suffixes = iter([f"_l{layer}{end}" for layer in range(module.num_layers) for end in ends])

    def borrow(input_size: int) -> Cell:
        return cell.borrow(module, next(suffixes), input_size)

    return Recurrent(
        borrow,
        module.input_size,
        depth=module.num_layers,
        bidirectional=module.bidirectional,
        kernel=kernel,
    )


def call_module(
    module: nn.RNNBase, network: Recurrent, input: Any, hx: Any = None, lengths: Lengths | None = None
) -> tuple[Any, Any]:
    """Compute a module by the network that :func:`borrowing` made, with the module's arguments and errors.

    Args:
        module: the module.
        network: its network.
        input: as for :meth:`FastModule.forward`, like the arguments that follow.
        hx: the initial state.
        lengths: valid steps of each row.
    """
    for name in ("dropout", "training"):
        if getattr(network, name) != getattr(module, name):
            setattr(network, name, getattr(module, name))
    # A parametrised weight is computed once a call, not at every step.
    with parametrize.cached() if parametrize.is_parametrized(module) else nullcontext():
        module._update_flat_weights()  # whose dtype torch's checks read
        return _call(module, network, input, hx, lengths)


def _call(module: nn.RNNBase, network: Recurrent, input: Any, hx: Any, lengths: Lengths | None) -> tuple[Any, Any]:
    names = network.cells[0].state_names
    if isinstance(input, PackedSequence):
        if lengths is not None:
            raise ValueError("lengths must not be given with packed input, which has its own")
        y, end = network(input, _checked(module, names, input.data, hx, input.batch_sizes))
        return y, _as_torch(end)
    if input.dim() not in (2, 3):
        raise ValueError(f"{_name(module)}: Expected input to be 2D or 3D, got {input.dim()}D instead")
    rows, is_batched = 0 if module.batch_first else 1, input.dim() == 3
    x = input if is_batched else input.unsqueeze(rows)
    state = _checked(module, names, x, hx, None, is_batched=is_batched)
    y, end = network(x.transpose(0, 1) if module.batch_first else x, state, lengths)
    assert end is not None
    y = y.transpose(0, 1) if module.batch_first else y
    return (y, _as_torch(end)) if is_batched else (y.squeeze(rows), _as_torch([each.squeeze(1) for each in end]))


def _checked(
    module: nn.RNNBase, names: Sequence[str], x: Tensor, hx: Any, batch_sizes: Tensor | None, *, is_batched: bool = True
) -> tuple[Tensor, ...] | None:
    """Check input and state as torch does; return the state as a tuple of batched tensors."""
    if hx is None:
        module.check_input(x, batch_sizes)
        return None
    state = tuple(hx) if len(names) > 1 else (hx,)
    if len(state) != len(names) or not all(isinstance(each, Tensor) for each in state):
        wanted = f"a tuple ({', '.join(names)})" if len(names) > 1 else "a tensor"
        raise RuntimeError(f"{_name(module)}: the initial state must be {wanted}")
    axes = 3 if is_batched else 2
    if any(each.dim() != axes for each in state):
        kind, got = ("batched", "unbatched")[axes == 2], ", ".join(f"{each.dim()}-D" for each in state)
        raise RuntimeError(f"For {kind} {axes}-D input, hx should also be {axes}-D but got ({got}) tensors")
    state = state if is_batched else tuple(each.unsqueeze(1) for each in state)
    module.check_forward_args(x, state if len(names) > 1 else state[0], batch_sizes)  # type: ignore[arg-type]  # LSTM's
    return state


def _as_torch(state: Sequence[Tensor] | None) -> Any:
    assert state is not None
    return tuple(state) if len(state) > 1 else state[0]


def _name(module: nn.RNNBase) -> str:
    return type(module).__name__
