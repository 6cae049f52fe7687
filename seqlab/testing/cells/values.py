"""What the checks of a cell are made of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.recurrence import Recurrent, scan
from seqlab.recurrence.scan import rebuild, same_structure
from seqlab.testing.comparison import CASES, MODERATE, overflowed
from seqlab.testing.inputs import RefusedError, is_random, make_cell
from seqlab.testing.suite import Suite, agree, demand

MODES = {"evaluation": False, "training": True}


@final
@dataclass(frozen=True)
class Setting:
    """A cell in one mode and size, and an input.

    Attributes:
        where: what a failure's message begins with.
        cell: in double precision.
        x: ``[time, batch, input]``.
        random: whether two calls with other random numbers differ, as with dropout.
    """

    where: str
    cell: Cell
    x: Tensor
    random: bool


@final
@dataclass(frozen=True)
class _Size:
    where: str
    time: int
    batch: int
    sizes: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0


_SIZES = (
    _Size("", 6, 4),
    _Size("140 steps", 140, 2),
    _Size("130 rows", 3, 130),
    _Size("one unit", 5, 3, {"hidden_size": 1}),
    _Size("16 units", 4, 3, {"hidden_size": 16}),
    _Size("33 units", 4, 3, {"hidden_size": 33}),
    _Size("65 units", 4, 3, {"hidden_size": 65}),
    _Size("128 units", 3, 2, {"hidden_size": 128}),
    _Size("one input feature", 4, 3, {"input_size": 1}),
    _Size("16 input features", 4, 3, {"input_size": 16}),
    _Size("33 input features", 4, 3, {"input_size": 33}),
    _Size("128 input features", 3, 2, {"input_size": 128}),
    _Size("as many steps, rows, features and units", 5, 5, {"input_size": 5, "hidden_size": 5}),
    _Size("64 input features and units", 4, 3, {"input_size": 64, "hidden_size": 64}),
)
"""Sizes at which the laws of a step are held: small, long, many rows, and widths around powers of two."""

_LARGE = _Size("inputs 1000 times larger", 6, 4, scale=1000.0)


class CellMaking(Suite):
    """Names a cell and makes it ready for its checks.

    Attributes:
        cell: the cell's type, or a factory that takes ``input_size`` and ``hidden_size``.
        options: what else its constructor is to be given. ``hidden_size`` is 5 unless stated, or
            the first of a few rounder sizes that it takes.
        input_size: features of one input step.
    """

    cell: ClassVar[Callable[..., Cell]]
    options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    def make(self, *, seed: int = 0, dtype: torch.dtype = torch.float64, train: bool = False, **changed: Any) -> Cell:
        """Make the cell, the same at every call with one seed."""
        arguments = {"input_size": self.input_size, **self.options, **changed}
        return make_cell(type(self).cell, arguments, seed=seed, dtype=dtype, train=train)

    def inputs(
        self, time: int, batch: int, *, seed: int = 1, dtype: torch.dtype = torch.float64, size: int | None = None
    ) -> Tensor:
        """Draw an input ``[time, batch, input]`` from the normal distribution."""
        shape = (time, batch, self.input_size if size is None else size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    def settings(self, *, large: bool = False) -> Iterator[Setting]:
        """Make the cell in both modes, at each size that its constructor takes.

        Args:
            large: whether inputs a thousand times larger are among them.
        """
        for size in (*_SIZES, _LARGE) if large else _SIZES:
            if any(key in self.options for key in size.sizes):
                continue
            for mode, train in MODES.items():
                try:
                    cell = self.make(train=train, **size.sizes)
                except RefusedError:
                    if not size.where:
                        raise
                    break
                where = f"{size.where}, {mode}" if size.where else mode
                x = size.scale * self.inputs(size.time, size.batch, size=cell.input_size)
                yield Setting(where, cell, x, train and is_random(cell))

    @staticmethod
    def run(
        cell: Cell, x: Tensor, state: State | None = None, lengths: Tensor | None = None, *, seed: int = 11
    ) -> tuple[Tensor, State]:
        """Scan with the reference loop, from the same state of the random numbers at every call."""
        torch.manual_seed(seed)
        return scan(cell, x, cell.initial_state(x[0]) if state is None else state, lengths)

    def reached(self, cell: Cell, time: int, batch: int, seed: int = 7) -> State:
        """Give a state that the cell comes to by itself, so that a law among its leaves holds."""
        with torch.no_grad():
            _, state = self.run(cell, self.inputs(time, batch, seed=seed, size=cell.input_size))
        return rebuild(state, [leaf.clone() for leaf in state])


class NumberChecks(CellMaking):
    """What float64 can do, float32 can."""

    def test_large_and_small_numbers(self) -> None:
        """Inputs a thousand times larger, tiny, zero and constant ones: finite in float32, forward and backward."""
        for mode, train in MODES.items():
            x = self.inputs(6, 3, dtype=torch.float32)
            plain = [self._results(dtype, train, x) for dtype in (torch.float32, torch.float64)]
            for name, value in plain[0].items():
                demand(bool(plain[1][name].isfinite().all()), f"{mode}: {name} is not finite")
                agree(f"{mode}: {name} in float32 against float64", value, plain[1][name], 1e-3)
            for what, change in CASES.items():
                given = change(x)
                low, high = (self._results(dtype, train, given) for dtype in (torch.float32, torch.float64))
                for name, value in high.items():
                    finite = what not in MODERATE or bool(value.isfinite().all())
                    demand(finite, f"{what}, {mode}: {name} is not finite, in float64 as well")
                overflowed(f"{what}, {mode}", low, high)
            for what, given in (
                ("300 steps", self.inputs(300, 2).float()),
                ("300 steps of ones", torch.ones(300, 2, x.shape[2])),
            ):
                low, high = (self._results(dtype, train, given) for dtype in (torch.float32, torch.float64))
                overflowed(f"{what}, {mode}", low, high)

    def _results(self, dtype: torch.dtype, train: bool, x: Tensor) -> dict[str, Tensor]:
        """Give outputs, final states and gradients, by name."""
        cell = self.make(dtype=dtype, train=train)
        x = x.to(dtype, copy=True).requires_grad_()
        own, sources = cell.initial_state(x[0]), {"the inputs": x}
        start = []
        for name, leaf in zip(cell.state_names, own, strict=True):
            if leaf.is_floating_point() and bool(leaf.isfinite().all()):
                sources[f"the initial state {name}"] = added = torch.zeros_like(leaf).requires_grad_()
                leaf = leaf + added  # as a learned initial state is differentiated
            start.append(leaf)
        y, end = self.run(cell, x, rebuild(own, start))
        found = {"the output": y} | {f"state {name}": leaf for name, leaf in zip(cell.state_names, end, strict=True)}
        found = {name: value for name, value in found.items() if value.is_floating_point()}
        total = torch.stack([value.mean() for value in found.values()]).sum()  # a mean, which does not itself overflow
        sources |= {name: p for name, p in cell.named_parameters() if p.requires_grad}
        results = {name: value.detach() for name, value in found.items()}
        if total.requires_grad:
            gradients = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
            for name, gradient in zip(sources, gradients, strict=True):
                if gradient is not None and gradient.is_floating_point():
                    results[f"the gradient of {name}"] = gradient
        return results


class RowChecks(CellMaking):
    """No look at the future, at padding, at other rows or at how much of anything there is."""

    def test_initial_state_is_fixed(self) -> None:
        """The initial state is the same for every row and every input, NaN included, of any width."""
        for mode, train in MODES.items():
            cell, like = self.make(train=train), self.inputs(1, 4)[0]
            wanted = _initial(cell, like)
            for what, other in {
                "another input": 3 * self.inputs(1, 4, seed=2)[0],
                "zeros": torch.zeros_like(like),
                "NaN, as padding may hold": torch.full_like(like, torch.nan),
                "one feature": like[:, :1],
            }.items():
                for name, leaf, kept in zip(cell.state_names, _initial(cell, other), wanted, strict=True):
                    agree(f"{mode}: initial state {name} for {what}", leaf, kept, 0.0)
            if is_random(cell):
                continue
            for batch in (1, 3, 130):
                many = _initial(cell, like.new_zeros(batch, like.shape[1]))
                for name, leaf, kept in zip(cell.state_names, many, wanted, strict=True):
                    agree(f"{mode}: initial state {name} for {batch} rows", leaf, kept[:1].expand(leaf.shape), 0.0)

    def test_causality_by_gradient(self) -> None:
        """The gradient of the output at t with respect to every later input is zero."""
        for one in self.settings(large=True):
            x = one.x.clone().requires_grad_()
            y, _ = self.run(one.cell, x)
            for t in _places(len(x)) if y.requires_grad else ():
                (gradient,) = torch.autograd.grad(y[t].sum(), x, retain_graph=True, allow_unused=True)
                later = 0.0 if gradient is None else float(gradient[t + 1 :].abs().max())
                fault = f"{one.where}: the output at step {t} has a gradient of {later:.3g} in an input after it"
                demand(later == 0, fault)

    def test_causality_by_perturbation(self) -> None:
        """Another future leaves the past as it was."""
        for one in self.settings(large=True):
            other = 3 * self.inputs(*one.x.shape[:2], seed=2, size=one.cell.input_size)
            y, _ = self.run(one.cell, one.x)
            for t in _places(len(one.x)):
                changed, _ = self.run(one.cell, torch.cat([one.x[: t + 1], other[t + 1 :]]))
                agree(
                    f"{one.where}: the outputs up to step {t}, with other inputs after it", changed[: t + 1], y[: t + 1]
                )

    def test_rows_are_independent(self) -> None:
        """A row gives the same alone, in a batch, in another order and beside others; no gradient crosses over."""
        for one in self.settings(large=True):
            x = one.x.clone().requires_grad_()
            y, state = self.run(one.cell, x)
            if y.requires_grad:
                (gradient,) = torch.autograd.grad(y[:, 0].sum(), x, allow_unused=True)
                crossed = 0.0 if gradient is None else float(gradient[:, 1:].abs().max())
                fault = f"{one.where}: the output of row 0 has a gradient of {crossed:.3g} in the input of another row"
                demand(crossed == 0, fault)
            self._other_neighbours(one, y, state)
            if not one.random:
                self._reordered(one, y, state)

    def _other_neighbours(self, one: Setting, y: Tensor, state: State) -> None:
        other = 3 * self.inputs(*one.x.shape[:2], seed=2, size=one.cell.input_size)
        for row in {0, one.x.shape[1] - 1}:
            beside = other.clone()
            beside[:, row] = one.x[:, row]
            got, end = self.run(one.cell, beside)
            agree(f"{one.where}: row {row}, beside other rows", got[:, row], y[:, row])
            for name, leaf, kept in zip(one.cell.state_names, end, state, strict=True):
                agree(f"{one.where}: state {name} of row {row}, beside other rows", leaf[row], kept[row])

    def _reordered(self, one: Setting, y: Tensor, state: State) -> None:
        batch = one.x.shape[1]
        order = torch.randperm(batch, generator=torch.Generator().manual_seed(3))
        permuted, permuted_state = self.run(one.cell, one.x[:, order])
        agree(f"{one.where}: the outputs of the rows in another order", permuted, y[:, order])
        for name, actual, expected in zip(one.cell.state_names, permuted_state, state, strict=True):
            agree(f"{one.where}: state {name} of the rows in another order", actual, expected[order])
        for row in {0, 1, batch // 2, batch - 1}:
            alone, end = self.run(one.cell, one.x[:, row : row + 1])
            agree(f"{one.where}: row {row} alone against the same row in a batch", alone, y[:, row : row + 1])
            for name, actual, expected in zip(one.cell.state_names, end, state, strict=True):
                agree(f"{one.where}: state {name} of row {row} alone", actual, expected[row : row + 1])

    def test_padding_is_invisible(self) -> None:
        """NaN in the padding and more of it change no output, state or gradient."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(6, 5)
            lengths = torch.tensor([6, 1, 3, 4, 0])
            dead = torch.arange(6).unsqueeze(1) >= lengths
            poisoned = x.masked_fill(dead.unsqueeze(-1), torch.nan)
            plain = self._pass(cell, x, lengths)
            for name, gradient in [("the inputs", plain[2]), *plain[3].items()]:
                finite = bool(gradient.isfinite().all())
                demand(
                    finite,
                    f"{mode}: zeros in the padding, as every cell gets them: the gradient of {name} is not finite",
                )
            padded = {"NaN in the padding": poisoned}
            if not is_random(cell):
                padded["three more steps of padding"] = torch.cat([poisoned, torch.full_like(x[:3], torch.nan)])
                short, _ = self.run(cell, x[:3, 2:3])
                agree(f"{mode}: a padded row against the same row alone", plain[0][:3, 2:3], short)
            for what, given in padded.items():
                self._same_pass(f"{mode}: {what}", cell, plain, self._pass(cell, given, lengths))

    def _same_pass(self, where: str, cell: Cell, plain: "_Pass", got: "_Pass") -> None:
        agree(f"{where}: outputs", got[0][:6], plain[0])
        demand(not bool(got[0][6:].any()), f"{where}: the outputs of padding are not zero")
        for name, actual, expected in zip(cell.state_names, got[1], plain[1], strict=True):
            agree(f"{where}: final state {name}", actual, expected)
        agree(f"{where}: gradient of the inputs", got[2][:6], plain[2])
        for name, actual, expected in zip(plain[3], got[3].values(), plain[3].values(), strict=True):
            agree(f"{where}: gradient of {name}", actual, expected)

    def _pass(self, cell: Cell, x: Tensor, lengths: Tensor) -> "_Pass":
        x = x.clone().requires_grad_()
        y, state = self.run(cell, x, None, lengths)
        parameters = {name: p for name, p in cell.named_parameters() if p.requires_grad}
        sources = [x, *parameters.values()]
        total = y.sum() + sum(leaf.sum() for leaf in state if leaf.is_floating_point())
        found = torch.autograd.grad(total, sources, allow_unused=True) if total.requires_grad else [None] * len(sources)
        filled = [torch.zeros_like(of) if one is None else one for one, of in zip(found, sources, strict=True)]
        return y.detach(), state, filled[0], dict(zip(parameters, filled[1:], strict=True))


_Pass = tuple[Tensor, State, Tensor, dict[str, Tensor]]
"""Outputs, final state, gradient of the inputs, and those of the parameters by name."""


def _initial(cell: Cell, like: Tensor) -> State:
    torch.manual_seed(11)
    return cell.initial_state(like)


def _places(time: int) -> list[int]:
    """Choose steps after which something is changed: all of a short run."""
    return list(range(time - 1)) if time <= 10 else [0, 1, 17, 64, 100, time - 2]


class StateChecks(CellMaking):
    """What is carried from step to step."""

    def test_state_carries_over_every_cut(self) -> None:
        """Two runs joined by the state are the run in one, wherever the cut: outputs, state and gradient."""
        for one in self.settings(large=True):
            if one.random:
                continue
            x = one.x.clone().requires_grad_()
            whole, end = self.run(one.cell, x)
            expected = _gradient(whole, x)
            time = len(x)
            for cut in range(1, time) if time <= 10 else (1, 63, 64, 65, 128, time - 1):
                first, middle = self.run(one.cell, x[:cut])
                second, last = self.run(one.cell, x[cut:], middle)
                joined, where = torch.cat([first, second]), f"{one.where}: "
                agree(f"{where}the outputs of a run cut at step {cut}", joined, whole)
                for name, actual, leaf in zip(one.cell.state_names, last, end, strict=True):
                    agree(f"{where}state {name} of a run cut at step {cut}", actual, leaf)
                if expected is not None:
                    gradient = _gradient(joined, x)
                    demand(gradient is not None, f"{where}cut at step {cut}: no gradient reaches the input")
                    if gradient is not None:
                        agree(f"{where}the gradient of the input of a run cut at step {cut}", gradient, expected)
            self._step_by_step(one, whole)

    def _step_by_step(self, one: Setting, whole: Tensor) -> None:
        """Join single steps, as ``generate`` makes them."""
        with torch.no_grad():
            state, outputs = one.cell.initial_state(one.x[0]), []
            for t in range(len(one.x)):
                y, state = self.run(one.cell, one.x[t : t + 1], state)
                outputs.append(y)
        agree(f"{one.where}: the outputs of single steps joined by the state", torch.cat(outputs), whole)

    def test_state_is_used(self) -> None:
        """Outputs depend on earlier inputs, and every leaf of the state is read."""
        for train in MODES.values():
            self._is_used(self.make(train=train))

    def _is_used(self, cell: Cell) -> None:
        x, other = self.inputs(10, 2), self.inputs(10, 2, seed=2)
        y, _ = self.run(cell, x)
        changed, _ = self.run(cell, torch.cat([other[:1], x[1:]]))
        moved = float((changed[1:] - y[1:]).detach().abs().max())
        demand(moved > 1e-12, "another first input changes no later output: the state is not used")
        here, there = self.reached(cell, 3, 2, seed=8), self.reached(cell, 5, 2, seed=9)
        outputs, end = self.run(cell, x, here)
        for index, name in enumerate(cell.state_names):
            mixed = rebuild(here, [*here[:index], there[index], *here[index + 1 :]])
            if torch.equal(here[index], there[index]):
                continue  # the same after any past, such as a mask that evaluation does not use
            got, got_end = self.run(cell, x, mixed)
            # Compared step by step would miss a leaf that only counts: then the final state tells.
            same = torch.equal(got, outputs) and all(map(torch.equal, got_end, end))
            demand(not same, f"state {name} changes neither an output nor the final state: it is never read")

    def test_reverse_is_flip(self) -> None:
        """The backward half of a bidirectional layer is the cell on each row reversed within its length."""
        seeds = iter((0, 1))
        net = Recurrent(lambda **_: self.make(seed=next(seeds)), self.input_size, bidirectional=True, kernel="loop")
        net = net.eval()
        x, lengths = self.inputs(5, 3), torch.tensor([5, 2, 4])
        y, _ = net(x, lengths=lengths)
        forward, backward = net.cells
        alone, _ = self.run(forward, x, None, lengths)
        agree("the forward half", y[..., : forward.output_size], alone)
        for row, length in enumerate(lengths.tolist()):
            flipped, _ = self.run(backward, x[:length, row : row + 1].flip(0))
            half = y[:length, row : row + 1, forward.output_size :]
            agree(f"the backward half of a row of length {length}", half, flipped.flip(0))


def _gradient(y: Tensor, x: Tensor) -> Tensor | None:
    if not y.requires_grad:
        return None
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    return torch.autograd.grad((y * weight).sum(), x, allow_unused=True)[0]


class StepChecks(CellMaking):
    """Shapes and dtypes, at every size."""

    def test_shapes_and_dtypes(self) -> None:
        """Outputs are [time, batch, output_size] in the input's dtype, and a step keeps the state's structure."""
        for mode, train in MODES.items():
            for dtype in (torch.float32, torch.float64):
                cell, x = self.make(dtype=dtype, train=train), self.inputs(4, 3, dtype=dtype)
                start = cell.initial_state(x[0])
                _check_start(cell, start, dtype)
                projected = cell.project(x)
                demand(projected.shape[:2] == (4, 3), f"project gives {tuple(projected.shape)}, not [4, 3, ...]")
                y, new = cell.step(projected[0], start)
                expected = (3, cell.output_size)
                demand(y.shape == expected, f"the output is {tuple(y.shape)}; output_size says {expected}")
                demand(y.dtype == dtype, f"the output is {y.dtype} for an input of {dtype}")
                fault = same_structure(new, start)
                demand(not fault, f"{fault} ({dtype}, {mode})")

        for one in self.settings():
            y, end = self.run(one.cell, one.x)
            expected = (*one.x.shape[:2], one.cell.output_size)
            demand(tuple(y.shape) == expected, f"{one.where}: the outputs are {tuple(y.shape)}, not {expected}")
            for name, leaf in zip(one.cell.state_names, end, strict=True):
                right = leaf.shape[:1] == one.x.shape[1:2]
                demand(right, f"{one.where}: state {name} is {tuple(leaf.shape)} for {one.x.shape[1]} rows")
        elsewhere = self.make().to("meta")
        for name, leaf in zip(
            elsewhere.state_names, elsewhere.initial_state(self.inputs(1, 3)[0].to("meta")), strict=True
        ):
            demand(leaf.is_meta, f"state {name} is on {leaf.device} for an input on another device")

    def test_small_sizes(self) -> None:
        """One step, one row, one unit and one feature work as well as many."""
        for mode, train in MODES.items():
            for time, batch in ((1, 1), (1, 3), (5, 1)):
                cell, x = self.make(train=train), self.inputs(time, batch)
                y, _ = self.run(cell, x)
                right = (time, batch, cell.output_size)
                demand(y.shape == right, f"time {time}, batch {batch}, {mode}: {tuple(y.shape)}")
                demand(bool(y.isfinite().all()), f"time {time}, batch {batch}, {mode}: the output is not finite")
            for what in ("input_size", "hidden_size"):
                size: dict[str, Any] = {what: 1}
                try:
                    narrow = self.make(train=train, **size)
                except RefusedError:
                    continue
                y, _ = self.run(narrow, self.inputs(3, 2, size=narrow.input_size))
                demand(bool(y.isfinite().all()), f"{what} 1, {mode}: the output is not finite")


def _check_start(cell: Cell, start: State, dtype: torch.dtype) -> None:
    demand(isinstance(start, tuple), f"initial_state gives a {type(start).__name__}; it must be a tuple of tensors")
    names = cell.state_names
    demand(len(start) == len(names), f"the state has {len(start)} leaves, and state_names has {len(names)}")
    for name, leaf in zip(names, start, strict=True):
        shape = tuple(leaf.shape)
        demand(shape[:1] == (3,), f"state {name} is {shape} for a batch of 3: the batch must be its first axis")
        if leaf.is_floating_point():
            demand(leaf.dtype == dtype, f"state {name} is {leaf.dtype} for an input of {dtype}")
            demand(not bool(leaf.isnan().any()), f"state {name} starts with NaN")
