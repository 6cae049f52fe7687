"""Random configurations of a recurrent module and of its input, and the comparison of two modules on one."""

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

import seqlab.nn

MODULES = {"RNN": (nn.RNN, seqlab.nn.RNN), "LSTM": (nn.LSTM, seqlab.nn.LSTM), "GRU": (nn.GRU, seqlab.nn.GRU)}


@dataclass(frozen=True)
class Configuration:
    """A module and a batch.

    ``form``: ``unbatched``, ``full``, ``packed``, ``list``, ``tuple`` or ``tensor`` of lengths.
    """

    kind: str
    input_size: int
    hidden_size: int
    layers: int
    options: dict[str, Any]
    lengths: list[int]
    form: str
    has_state: bool
    seed: int

    def modules(self, dtype: torch.dtype, **ours: Any) -> tuple[nn.RNNBase, nn.RNNBase]:
        """Return torch's module and ours, of the same seed."""
        sizes = self.input_size, self.hidden_size, self.layers
        made = []
        for module, more in zip(MODULES[self.kind], ({}, ours), strict=True):
            torch.manual_seed(self.seed)
            made.append(module(*sizes, **self.options, dtype=dtype, **more))
        return made[0], made[1]

    def batch(self, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """Return the input in the layout of the module, and the tensors of the initial state."""
        generator = torch.Generator().manual_seed(self.seed)
        time, rows = max(self.lengths), len(self.lengths)
        shape = (rows, time) if self.options["batch_first"] else (time, rows)
        x = torch.randn(*shape, self.input_size, generator=generator, dtype=dtype)
        count = self.layers * (2 if self.options["bidirectional"] else 1)
        states = [
            torch.randn(count, rows, self.hidden_size, generator=generator, dtype=dtype)
            for _ in range(2 if self.kind == "LSTM" else 1)
        ]
        if self.form == "unbatched":
            return x.squeeze(0 if self.options["batch_first"] else 1), [each.squeeze(1) for each in states]
        return x, states


@st.composite
def configurations(draw: st.DrawFn, largest: int = 6) -> Configuration:
    kind = draw(st.sampled_from(sorted(MODULES)))
    options = {name: draw(st.booleans()) for name in ("bias", "batch_first", "bidirectional")}
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    form = draw(st.sampled_from(["unbatched", "full", "packed", "list", "tuple", "tensor"]))
    time, rows = draw(st.integers(1, largest)), 1 if form == "unbatched" else draw(st.integers(1, 5))
    lengths = [time] * rows
    if form not in ("unbatched", "full"):
        lengths = draw(st.lists(st.integers(1, time), min_size=rows, max_size=rows))
    sizes = [draw(st.integers(1, most)) for most in (largest, largest, 3)]
    return Configuration(kind, *sizes, options, lengths, form, draw(st.booleans()), draw(st.integers(0, 2**31)))


@dataclass
class Results:
    """Outputs (padded), final states, and the gradients of a scalar that weighs every output and state differently."""

    output: Tensor
    states: list[Tensor]
    to_input: Tensor
    to_states: list[Tensor]
    to_parameters: dict[str, Tensor]


def run(configuration: Configuration, module: nn.RNNBase, x: Tensor, states: list[Tensor], *, lengths: bool) -> Results:
    """Run a module; ragged rows by ``lengths=`` if asked, else packed."""
    x = x.detach().clone().requires_grad_()
    states = [each.detach().clone().requires_grad_() for each in states]
    first, hx = configuration.options["batch_first"], None
    if configuration.has_state:
        hx = tuple(states) if configuration.kind == "LSTM" else states[0]
    if configuration.form in ("unbatched", "full"):
        output, end = module(x, hx)
    elif lengths:
        kind = {"list": list, "tuple": tuple, "tensor": torch.tensor}[configuration.form]
        output, end = module(x, hx, lengths=kind(configuration.lengths))
    else:
        packed = pack_padded_sequence(x, configuration.lengths, batch_first=first, enforce_sorted=False)
        output, end = module(packed, hx)
        assert isinstance(output, PackedSequence)
        assert torch.equal(output.batch_sizes, packed.batch_sizes)
        output, _ = pad_packed_sequence(output, batch_first=first)
    ends = list(end) if isinstance(end, tuple) else [end]
    scalar = sum((each * torch.arange(each.numel()).view(each.shape).cos().to(each)).sum() for each in [output, *ends])
    wanted = [x, *(states if configuration.has_state else []), *module.parameters()]
    to_input, *rest = torch.autograd.grad(scalar, wanted)
    count = len(states) if configuration.has_state else 0
    names = [name for name, _ in module.named_parameters()]
    return Results(output, ends, to_input, rest[:count], dict(zip(names, rest[count:], strict=True)))


def compare(configuration: Configuration, dtype: torch.dtype, tolerance: float, **ours: Any) -> nn.RNNBase:
    """Compare our module with torch's; return ours."""
    theirs, module = configuration.modules(dtype, **ours)
    x, states = configuration.batch(dtype)
    expected = run(configuration, theirs, x, states, lengths=False)
    found = run(configuration, module, x, states, lengths=configuration.form != "packed")
    assert_close(vars(found), vars(expected), rtol=tolerance, atol=tolerance)
    return module
