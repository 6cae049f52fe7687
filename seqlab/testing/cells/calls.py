"""Checks that the calls of a cell leave no trace."""

from typing import Any

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.testing.cells.making import MODES, CellMaking
from seqlab.testing.making import is_random
from seqlab.testing.suite import agree, demand
from seqlab.testing.surroundings import Trainable, random_states, seed_all, unchanged, unusual_settings


class CallChecks(CellMaking):
    """The same call gives the same, whatever came before it, and changes nothing."""

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation nothing is random, in training torch's seed decides, and nothing sets that seed."""
        cell, twin, x = self.make(), self.make(), self.inputs(5, 3)
        twin.load_state_dict(cell.state_dict())
        y, end = self.run(cell, x, seed=11)
        again, again_end = self.run(twin, x, seed=12)
        agree("two evaluations of the same input, with other random numbers,", again, y, 0.0)
        for name, leaf, kept in zip(cell.state_names, again_end, end, strict=True):
            agree(f"state {name} after two evaluations of the same input, with other random numbers,", leaf, kept, 0.0)
        for mode, train in MODES.items():
            found, after = [], []
            for turn, seed in enumerate((3, 4, 3)):
                cell = self.make(train=train)
                seed_all(turn)  # run sets torch's seed
                found.append(self.run(cell, x, seed=seed)[0])
                after.append(random_states())
            agree(f"two runs in {mode} from one seed", found[2], found[0], 0.0)
            for whose in after[0]:
                fixed = after[0][whose] == after[1][whose]
                fault = f"a call in {mode} sets {whose}'s seed: what is drawn after it is the same after any seed"
                demand(not fixed, fault)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        demand(default == torch.float32, f"it sets torch's default dtype to {default}")
        after = []
        for seed in (3, 4):
            seed_all(seed)
            self.make(seed=seed)
            after.append(random_states())
        for whose in after[0]:
            fixed = after[0][whose] == after[1][whose]
            fault = f"the constructor sets {whose}'s seed: all weights drawn after it are the same after any seed"
            demand(not fixed, fault)

    def test_no_memory_between_calls(self) -> None:
        """A call does not change what the next one gives, nor a parameter or buffer, in training or in evaluation."""
        for train_between in MODES.values():
            for mode, train in MODES.items():
                self._no_memory(mode, train, train_between)

    def _no_memory(self, mode: str, train: bool, train_between: bool) -> None:
        cell, x = self.make(train=train), self.inputs(5, 3)
        kept = {name: value.clone() for name, value in cell.state_dict().items()}
        y, _ = self.run(cell, x)
        other = self.make(train=train_between)
        for called in (cell, other):
            called.train(train_between)
            for shape in ((7, 2), (5, 3), (1, 3), (140, 2), (2, 130)):
                self.run(called, self.inputs(*shape, seed=sum(shape)), seed=5)
            with torch.no_grad():
                for seed in range(12):
                    self.run(called, self.inputs(5, 3, seed=40 + seed), seed=6)
        cell.train(train)
        between = "training" if train_between else "evaluation"
        added = ", ".join(sorted(cell.state_dict().keys() ^ kept.keys()))
        demand(not added, f"{added}: a parameter or buffer that comes or goes with a call, which no optimizer knows")
        for name, value in cell.state_dict().items():
            agree(f"{name} after calls in {between}, which must keep nothing,", value, kept[name], 0.0)
        again, _ = self.run(cell, x)
        agree(f"the same call in {mode}, after others in {between} on other inputs,", again, y, 1e-12)
        first, middle = self.run(cell, x[:2])
        self.run(cell, self.inputs(4, 7, seed=8))
        second, _ = self.run(cell, x[2:], middle)
        if not is_random(cell):
            where = f"a run in {mode} that goes on from its state after a run of another batch"
            agree(where, torch.cat([first, second]), y, 1e-12)
        fresh, _ = self.run(self.make(train=train), x)
        agree(f"a call in {mode} of a new cell of the same seed, after calls of others in {between},", fresh, y, 1e-12)

    def test_sees_changed_parameters(self) -> None:
        """Parameters that were loaded or changed in place since the last call are seen."""
        for mode, train in MODES.items():
            for grad in (True, False):
                with torch.set_grad_enabled(grad):
                    self._sees_changes(f"{mode}, {'with' if grad else 'without'} gradients", train)

    def _sees_changes(self, where: str, train: bool) -> None:
        cell, other, x = self.make(train=train), self.make(seed=1, train=train), self.inputs(5, 3)
        for called in (cell, other):
            self.run(called, x)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.copy_(1.1 * parameter)
        fresh = self.make(seed=2, train=train)
        fresh.load_state_dict(other.state_dict())
        wanted, _ = self.run(fresh, x)
        got, _ = self.run(other, x)
        agree(f"{where}: the output after weights were changed in place between two calls", got, wanted, 1e-12)
        cell.load_state_dict(other.state_dict())
        got, _ = self.run(cell, x)
        agree(f"{where}: the output after weights were loaded between two calls", got, wanted, 1e-12)
        for changed in (cell, fresh):
            for parameter in changed.parameters():
                parameter.data.mul_(0.9)
        wanted, got = (self.run(one, x)[0] for one in (self._twin(fresh, train), cell))
        agree(f"{where}: the output after weights were changed through .data between two calls", got, wanted, 1e-12)

    def _twin(self, cell: Cell, train: bool) -> Cell:
        """Make a cell that was never called, of the same weights."""
        twin = self.make(seed=3, train=train)
        twin.load_state_dict(cell.state_dict())
        return twin

    def test_input_is_left_alone(self) -> None:
        """Neither the input, the state that comes in nor an earlier result is changed in place."""
        for mode, train in MODES.items():
            for grad in (False, True):
                where = f"{mode}, {'with' if grad else 'without'} gradients"
                cell, x = self.make(train=train), self.inputs(4, 2)
                with torch.set_grad_enabled(grad):
                    before = x.clone()
                    for state in (self.reached(cell, 2, 2), cell.initial_state(x[0])):
                        leaves = [leaf.clone() for leaf in state]
                        self.run(cell, x, state)
                        agree(f"{where}: the input after a call against before it", x, before, 0.0)
                        for name, leaf, kept in zip(cell.state_names, state, leaves, strict=True):
                            agree(f"{where}: state {name} after a call against before it", leaf, kept, 0.0)
                    self._steps_left_alone(where, cell, x)

    def _steps_left_alone(self, where: str, cell: Cell, x: Tensor) -> None:
        """Hold each step's arguments, and the results of all earlier ones, against copies of them."""
        torch.manual_seed(11)
        state = cell.initial_state(x[0])
        fresh = not is_random(cell)
        start = [leaf.clone() for leaf in state]
        projected = cell.project(x)
        watched: list[tuple[str, Tensor, Tensor]] = []
        _watch(watched, "the initial state", cell, state)
        for t, x_t in enumerate(projected):
            given = x_t.clone()
            y, state = cell.step(x_t, state)
            agree(f"{where}: what project gave for step {t}, after the step", x_t, given, 0.0)
            for name, tensor, kept in watched:
                agree(f"{where}: {name}, after step {t}", tensor, kept, 0.0)
            watched.append((f"the output of step {t}", y, y.detach().clone()))
            _watch(watched, f"the state after step {t}", cell, state)
        if fresh:
            for name, leaf, kept in zip(cell.state_names, cell.initial_state(x[0]), start, strict=True):
                agree(f"{where}: initial_state {name} after steps against before them", leaf, kept, 0.0)

    def test_settings_are_left_alone(self) -> None:
        """Neither torch's settings, the cell's mode, nor ``requires_grad`` and ``.grad`` of a parameter are changed."""
        for mode, train in MODES.items():
            with unusual_settings() as before:
                self._settings_left_alone(mode, train, before)

    def _settings_left_alone(self, mode: str, train: bool, before: dict[str, Any]) -> None:
        cell, x = self.make(train=train), self.inputs(3, 2)
        unchanged("the constructor", before)
        kept = Trainable([cell])
        for grad in (True, False):
            where = f"a call in {mode}, {'with' if grad else 'without'} gradients,"
            with torch.set_grad_enabled(grad):
                y, end = self.run(cell, x)
            follows = [
                name
                for name, value in zip(("the output", *cell.state_names), (y, *end), strict=True)
                if value.requires_grad
            ]
            demand(grad or not follows, f"{where} gives {', '.join(follows)} with a gradient to follow")
            unchanged(where, before)
            kept.unchanged(where)

    def test_trains_after_inference(self) -> None:
        """After a call under ``inference_mode`` it trains as before."""
        for mode, train in MODES.items():
            cell, x = self.make(train=train), self.inputs(3, 2)
            wanted, _ = self.run(self.make(train=train), x)
            with torch.inference_mode():
                self.run(cell, x)
            try:
                y, _ = self.run(cell, x)
                if y.requires_grad:
                    torch.autograd.backward(y.sum())
            except RuntimeError as error:
                first = str(error).splitlines()[0]
                raise AssertionError(f"{mode}: training after a call under inference_mode raises: {first}") from error
            agree(f"{mode}: the output after a call under inference_mode", y, wanted, 1e-12)


def _watch(watched: list[tuple[str, Tensor, Tensor]], what: str, cell: Cell, state: State) -> None:
    for name, leaf in zip(cell.state_names, state, strict=True):
        watched.append((f"{name} of {what}", leaf, leaf.detach().clone()))
