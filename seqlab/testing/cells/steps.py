"""Checks of the steps of a cell: shapes, rows, the state that is carried, and the range of float32."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.recurrence import scan
from seqlab.recurrence.scan import rebuild, same_structure
from seqlab.testing.comparison import CASES, MODERATE, check_overflow
from seqlab.testing.layer import RefusedError, Values, differentiate, is_random, make_cell
from seqlab.testing.suite import Suite, assert_all_close, assert_close, require

MODES = {"evaluation": False, "training": True}


@final
@dataclass(frozen=True)
class Setting:
    """A cell in one mode and size, in double precision, and an input ``[time, batch, input]``."""

    where: str
    cell: Cell
    x: Tensor
    random: bool
    """Whether two calls with different seeds differ, as with dropout."""


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
"""Sizes of the checks: small, long, many rows, and widths around powers of two."""

_LARGE = _Size("inputs 1000 times larger", 6, 4, scale=1000.0)
_FEW = (_Size("one step of one row", 1, 1), _Size("one step", 1, 3), _Size("one row", 5, 1))


class CellBase(Suite):
    """Makes the cell of a :class:`seqlab.testing.CellSuite`, and its inputs."""

    cell: ClassVar[Callable[..., Cell]]
    options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    def make(self, *, seed: int = 0, dtype: torch.dtype = torch.float64, train: bool = False, **changed: Any) -> Cell:
        """Return a new cell whose weights depend on the seed alone."""
        arguments = {"input_size": self.input_size, **self.options, **changed}
        return make_cell(type(self).cell, arguments, seed=seed, dtype=dtype, train=train)

    def inputs(
        self, time: int, batch: int, *, seed: int = 1, dtype: torch.dtype = torch.float64, size: int | None = None
    ) -> Tensor:
        """Sample an input ``[time, batch, input]`` from the normal distribution."""
        shape = (time, batch, self.input_size if size is None else size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    def settings(self, *further: _Size) -> Iterator[Setting]:
        """Yield the cell in both modes, at each size that it accepts."""
        for size in (*_SIZES, *further):
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
        """Scan with the reference loop, from the same seed at every call."""
        torch.manual_seed(seed)
        return scan(cell, x, cell.initial_state(x[0]) if state is None else state, lengths)

    def results(
        self, cell: Cell, x: Tensor, state: State | None = None, lengths: Tensor | None = None, *, seed: int = 11
    ) -> Values:
        """Return outputs and final state by name, of :meth:`run`."""
        y, end = self.run(cell, x, state, lengths, seed=seed)
        return {"the output": y, **named_state(cell, end)}

    def differentiated(self, cell: Cell, x: Tensor, lengths: Tensor | None = None) -> Values:
        """Return outputs, final state, and gradients of inputs, initial state and parameters, by name."""
        x = x.clone().requires_grad_()
        torch.manual_seed(11)
        own, sources = cell.initial_state(x[0]), {"the inputs": x}
        start = []
        for name, h in zip(cell.state_names, own, strict=True):
            if h.is_floating_point() and bool(h.isfinite().all()):
                sources[f"the initial state {name}"] = added = torch.zeros_like(h).requires_grad_()
                h = h + added  # as a learned initial state is differentiated
            start.append(h)
        found = self.results(cell, x, rebuild(own, start), lengths)
        sources |= {name: p for name, p in cell.named_parameters() if p.requires_grad and p.is_floating_point()}
        # Scaled, so that the sum does not itself overflow.
        total = torch.stack([(value / 128).sum() for value in found.values() if value.is_floating_point()]).sum()
        return {name: value.detach() for name, value in found.items()} | differentiate(total, sources)

    def reached(self, cell: Cell, time: int, batch: int, seed: int = 7) -> State:
        """Return a state that the cell reaches by itself, which has the relations among its tensors that it needs."""
        with torch.no_grad():
            _, state = self.run(cell, self.inputs(time, batch, seed=seed, size=cell.input_size))
        return rebuild(state, [h.clone() for h in state])


def named_state(cell: Cell, state: State) -> Values:
    """Return the tensors of a state by name."""
    return {f"state {name}": h for name, h in zip(cell.state_names, state, strict=True)}


class RowChecks(CellBase):
    """Nothing depends on the future, on padding, on other rows or on the sizes."""

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
                assert_all_close(f"{mode}: the initial state for {what}", _initial(cell, other), wanted, 0.0)
            for batch in () if is_random(cell) else (1, 3, 130):
                many = _initial(cell, like.new_zeros(batch, like.shape[1]))
                expected = {name: wanted[name][:1].expand(h.shape) for name, h in many.items()}
                assert_all_close(f"{mode}: the initial state for {batch} rows", many, expected, 0.0)

    def test_causality(self) -> None:
        """Other inputs after step t leave the outputs up to t unchanged."""
        for one in self.settings(_LARGE):
            other = 3 * self.inputs(*one.x.shape[:2], seed=2, size=one.cell.input_size)
            y, _ = self.run(one.cell, one.x)
            for t in _places(len(one.x)):
                changed, _ = self.run(one.cell, torch.cat([one.x[: t + 1], other[t + 1 :]]))
                what = f"{one.where}: the outputs up to step {t}, with other inputs after it"
                assert_close(what, changed[: t + 1], y[: t + 1])

    def test_rows_are_independent(self) -> None:
        """A row gives the same alone, in a batch, in another order and beside others; no gradient crosses over."""
        for one in self.settings(_LARGE):
            x = one.x.clone().requires_grad_()
            y, state = self.run(one.cell, x)
            if y.requires_grad:
                (gradient,) = torch.autograd.grad(y[:, 0].sum(), x, allow_unused=True)
                crossed = 0.0 if gradient is None else float(gradient[:, 1:].abs().max())
                fault = f"{one.where}: the output of row 0 has a gradient of {crossed:.3g} in the input of another row"
                require(crossed == 0, fault)
            other = 3 * self.inputs(*one.x.shape[:2], seed=2, size=one.cell.input_size)
            for row in {0, one.x.shape[1] - 1}:
                beside = other.clone()
                beside[:, row] = one.x[:, row]
                where = f"{one.where}: row {row}, beside other rows"
                self._same_rows(where, one.cell, beside, (y, state), [row], [row])
            if not one.random:
                batch = one.x.shape[1]
                order = torch.randperm(batch, generator=torch.Generator().manual_seed(3)).tolist()
                where = f"{one.where}: rows in another order"
                self._same_rows(where, one.cell, one.x[:, order], (y, state), list(range(batch)), order)
                for row in {0, 1, batch // 2, batch - 1}:
                    where = f"{one.where}: row {row} alone against the same row in a batch"
                    self._same_rows(where, one.cell, one.x[:, row : row + 1], (y, state), [0], [row])

    def _same_rows(
        self, where: str, cell: Cell, x: Tensor, expected: tuple[Tensor, State], rows: list[int], others: list[int]
    ) -> None:
        """Compare rows of a run on ``x`` with other rows of the expected outputs and states."""
        y, end = self.run(cell, x)
        assert_close(f"{where}: the outputs", y[:, rows], expected[0][:, others])
        for name, h, right in zip(cell.state_names, end, expected[1], strict=True):
            assert_close(f"{where}: state {name}", h[rows], right[others])

    def test_padding_is_invisible(self) -> None:
        """NaN in the padding and more of it change no output, state or gradient."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(6, 5)
            lengths = torch.tensor([6, 1, 3, 4, 0])
            padding = torch.arange(6).unsqueeze(1) >= lengths
            poisoned = x.masked_fill(padding.unsqueeze(-1), torch.nan)
            plain = self.differentiated(cell, x, lengths)
            for name, gradient in plain.items():
                finite = not name.startswith("the gradient") or bool(gradient.isfinite().all())
                require(finite, f"{mode}: {name} is not finite with zeros in the padding (0 / 0?)")
            padded = {"NaN in the padding": poisoned}
            if not is_random(cell):
                padded["three more steps of padding"] = torch.cat([poisoned, torch.full_like(x[:3], torch.nan)])
                short, _ = self.run(cell, x[:3, 2:3])
                assert_close(f"{mode}: a padded row against the same row alone", plain["the output"][:3, 2:3], short)
            for what, given in padded.items():
                got, by_time = self.differentiated(cell, given, lengths), ("the output", "the gradient of the inputs")
                require(not bool(got["the output"][6:].any()), f"{mode}: {what}: the outputs of padding are not zero")
                cut = {name: value[:6] if name in by_time else value for name, value in got.items()}
                assert_all_close(f"{mode}: {what}", cut, plain)


def _initial(cell: Cell, like: Tensor) -> Values:
    torch.manual_seed(11)
    return named_state(cell, cell.initial_state(like))


def _places(time: int) -> list[int]:
    """Return the steps after which something is changed: all of a short run."""
    return list(range(time - 1)) if time <= 10 else [0, 1, 17, 64, 100, time - 2]


class StateChecks(CellBase):
    """The state carries all that later steps need."""

    def test_state_carries_over_every_cut(self) -> None:
        """Two runs joined by the state are the run in one, wherever the cut: outputs, state and gradient."""
        for one in self.settings(_LARGE):
            if one.random:
                continue
            x = one.x.clone().requires_grad_()
            whole, end = self.run(one.cell, x)
            expected = _gradient(whole, x)
            time = len(x)
            for cut in range(1, time) if time <= 10 else (1, 63, 64, 65, 128, time - 1):
                first, middle = self.run(one.cell, x[:cut])
                second, last = self.run(one.cell, x[cut:], middle)
                joined, where = torch.cat([first, second]), f"{one.where}, a run cut at step {cut}"
                assert_close(f"{where}: the outputs", joined, whole)
                assert_all_close(where, named_state(one.cell, last), named_state(one.cell, end))
                if expected is not None:
                    gradient = _gradient(joined, x)
                    if gradient is None:
                        raise AssertionError(f"{where}: no gradient reaches the input")
                    assert_close(f"{where}: the gradient of the input", gradient, expected)
            with torch.no_grad():
                state, outputs = one.cell.initial_state(one.x[0]), []
                for t in range(time):
                    y, state = self.run(one.cell, one.x[t : t + 1], state)
                    outputs.append(y)
            what = f"{one.where}: the outputs of single steps joined by the state, as generate makes them"
            assert_close(what, torch.cat(outputs), whole)

    def test_state_is_used(self) -> None:
        """Outputs depend on earlier inputs, and every state tensor is read."""
        for train in MODES.values():
            cell, x, other = self.make(train=train), self.inputs(10, 2), self.inputs(10, 2, seed=2)
            y, _ = self.run(cell, x)
            changed, _ = self.run(cell, torch.cat([other[:1], x[1:]]))
            moved = float((changed[1:] - y[1:]).detach().abs().max())
            require(moved > 1e-12, "another first input changes no later output: the state is not used")
            here, there = self.reached(cell, 3, 2, seed=8), self.reached(cell, 5, 2, seed=9)
            outputs, end = self.run(cell, x, here)
            for index, name in enumerate(cell.state_names):
                mixed = rebuild(here, [*here[:index], there[index], *here[index + 1 :]])
                if torch.equal(here[index], there[index]):
                    continue  # the same after any past, such as a mask that evaluation does not use
                got, got_end = self.run(cell, x, mixed)
                # Compared step by step would miss a tensor that only counts: then the final state tells.
                same = torch.equal(got, outputs) and all(map(torch.equal, got_end, end))
                require(not same, f"state {name} changes neither an output nor the final state: it is never read")


def _gradient(y: Tensor, x: Tensor) -> Tensor | None:
    if not y.requires_grad:
        return None
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    return torch.autograd.grad((y * weight).sum(), x, allow_unused=True)[0]


class NumberChecks(CellBase):
    """Float32 works where float64 does."""

    def test_large_and_small_numbers(self) -> None:
        """Inputs a thousand times larger, tiny, zero and constant ones: finite in float32, forward and backward."""
        for mode, train in MODES.items():
            x = self.inputs(6, 3, dtype=torch.float32)
            low, high = (self._results(dtype, train, x) for dtype in (torch.float32, torch.float64))
            for name, value in high.items():
                require(bool(value.isfinite().all()), f"{mode}: {name} is not finite")
            assert_all_close(f"{mode}, float32 against float64", low, high, 1e-3)
            cases = {what: change(x) for what, change in CASES.items()}
            cases["300 steps"] = self.inputs(300, 2).float()
            cases["300 steps of ones"] = torch.ones(300, 2, x.shape[2])
            for what, given in cases.items():
                low, high = (self._results(dtype, train, given) for dtype in (torch.float32, torch.float64))
                for name, value in high.items() if what in MODERATE else ():
                    require(bool(value.isfinite().all()), f"{what}, {mode}: {name} is not finite, in float64 as well")
                check_overflow(f"{what}, {mode}", low, high)

    def _results(self, dtype: torch.dtype, train: bool, x: Tensor) -> Values:
        found = self.differentiated(self.make(dtype=dtype, train=train), x.to(dtype))
        return {name: value for name, value in found.items() if value.is_floating_point()}


class StepChecks(CellBase):
    """Shapes and dtypes are right at every size."""

    def test_shapes_and_dtypes(self) -> None:
        """Outputs are [time, batch, output_size] in the input's dtype, and a step keeps the state's structure."""
        for mode, train in MODES.items():
            for dtype in (torch.float32, torch.float64):
                cell, x = self.make(dtype=dtype, train=train), self.inputs(4, 3, dtype=dtype)
                start = cell.initial_state(x[0])
                _check_start(cell, start, dtype)
                projected = cell.project(x)
                require(projected.shape[:2] == (4, 3), f"project returns {tuple(projected.shape)}, not [4, 3, ...]")
                y, new = cell.step(projected[0], start)
                expected = (3, cell.output_size)
                require(y.shape == expected, f"the output is {tuple(y.shape)}; by output_size it must be {expected}")
                require(y.dtype == dtype, f"the output is {y.dtype} for an input of {dtype}")
                fault = same_structure(new, start)
                require(not fault, f"{fault} ({dtype}, {mode})")
        for one in self.settings(*_FEW):
            y, end = self.run(one.cell, one.x)
            shape = (*one.x.shape[:2], one.cell.output_size)
            require(y.shape == shape, f"{one.where}: the outputs are {tuple(y.shape)}, not {shape}")
            require(bool(y.isfinite().all()), f"{one.where}: the output is not finite")
            for name, h in zip(one.cell.state_names, end, strict=True):
                right = h.shape[:1] == one.x.shape[1:2]
                require(right, f"{one.where}: state {name} is {tuple(h.shape)} for {one.x.shape[1]} rows")
        elsewhere, like = self.make().to("meta"), self.inputs(1, 3)[0].to("meta")
        for name, h in zip(elsewhere.state_names, elsewhere.initial_state(like), strict=True):
            require(h.is_meta, f"state {name} is on {h.device} for an input on another device")


def _check_start(cell: Cell, start: State, dtype: torch.dtype) -> None:
    require(isinstance(start, tuple), f"initial_state returns a {type(start).__name__}, not a tuple of tensors")
    names = cell.state_names
    require(len(start) == len(names), f"the state has {len(start)} tensors, and state_names has {len(names)}")
    for name, h in zip(names, start, strict=True):
        shape = tuple(h.shape)
        require(shape[:1] == (3,), f"state {name} is {shape} for a batch of 3: the batch must be its first axis")
        if h.is_floating_point():
            require(h.dtype == dtype, f"state {name} is {h.dtype} for an input of {dtype}")
            require(not bool(h.isnan().any()), f"state {name} starts with NaN")
