"""Base class of the suites, which pytest collects as tests and ``seqlab check`` runs one by one; assertions."""

import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final
from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.errors import UserError

PREFIX = "test_"

_RENAMED = {
    "empty_rows": "ragged_rows",
    "nan_in_the_padding": "ragged_rows",
    "both_directions": "ragged_rows",
    "long_rows": "sizes",
    "many_rows": "sizes",
    "sizes_of_the_cell": "sizes",
    "outputs_without_the_state": "parts_of_the_loss",
    "evaluation_mode": "parts_of_the_loss",
    "loss_falls_along_its_gradient": "loss_gradient_is_its_derivative",
    "loss_takes_rows_in_any_order": "every_row_counts_alike",
    "metrics_reset": "metrics_are_fresh",
    "baseline_can_be_beaten": "mode_is_right",
    "fitting_again_forgets": "only_the_texts_decide",
    "fits_in_one_pass": "only_the_texts_decide",
    "order_of_texts_does_not_matter": "only_the_texts_decide",
    "loading_forgets": "state_is_restored",
    "causality_by_gradient": "causality",
    "causality_by_perturbation": "causality",
    "no_parameter_is_unused": "gradients_reach_every_parameter",
    "saves_and_loads": "sees_changed_parameters",
    "small_sizes": "shapes_and_dtypes",
    "training_mode": "large_and_small_numbers",
    "baseline_is_blind": "baseline_ignores_the_input",
    "baseline_is_of_training": "baseline_comes_from_training",
    "metrics_begin_anew_after_reset": "metrics_are_fresh",
    "scales_are_of_training": "scaling_comes_from_training",
    "solved_is_a_line": "solved_is_a_threshold",
    "split_seed_deals_anew": "split_seed_changes_the_splits",
    "splits_are_dealt_by_chance": "splits_are_shuffled",
    "splits_are_the_same_again": "splits_are_reproducible",
    "state_is_taken_back": "state_is_restored",
}
"""Former names of checks, which ``skips`` may still use."""


class Suite:
    """Checks of one plugin: each method whose name begins with ``test_``.

    A subclass names the plugin, and pytest finds the rest::

        class TestMyCell(CellSuite):
            cell = MyCell
    """

    skips: ClassVar[Mapping[str, str]] = {}
    """Checks to skip, by name without ``test_``, with the reason: ``{"gradients_are_right": "a surrogate"}``."""
    roots: ClassVar[tuple[str, ...]] = ()
    """Checks whose failure may cause every failure after it."""

    def setup_method(self, method: Callable[..., Any]) -> None:
        """Skip the check if ``skips`` names it; seed torch, so that a failure is reproducible."""
        skips = dict(self.skips)
        for old in skips.keys() & _RENAMED.keys():
            warnings.warn(f"skips: the check {old} is now called {_RENAMED[old]}", DeprecationWarning, stacklevel=2)
            skips[_RENAMED[old]] = skips[old]
        if (name := method.__name__.removeprefix(PREFIX)) in skips:
            raise SkipTest(skips[name])
        torch.manual_seed(0)

    @classmethod
    def checks(cls) -> dict[str, str]:
        """Return the checks in the order of their definition: name, and what it requires in one line."""
        found: dict[str, str] = {}
        for owner in reversed(cls.__mro__):
            for name in vars(owner):
                if name.startswith(PREFIX) and callable(method := getattr(cls, name)):
                    found[name.removeprefix(PREFIX)] = (method.__doc__ or "").strip().partition("\n")[0]
        return found


@final
@dataclass(frozen=True)
class Outcome:
    """Result of one check.

    Attributes:
        check: its name.
        demand: what it requires, in one line.
        result: ``passed``, ``failed`` or ``skipped``.
        detail: why it failed, with the wrong number, or why it was skipped.
        seconds: wall-clock time.
        follows: an earlier failed check that may be the cause of this failure, if any.
    """

    check: str
    demand: str
    result: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float
    follows: str = ""


def run_suite(suite: type[Suite], only: str = "", begins: Callable[[str], object] = str) -> Iterator[Outcome]:
    """Run the checks whose name contains ``only``, one after another; go on after a failure.

    Args:
        suite: the suite of one plugin.
        only: part of a check's name; the empty text selects all.
        begins: called with the name of each check before it runs.

    Raises:
        UserError: no check has such a name.
    """
    chosen = {name: requirement for name, requirement in suite.checks().items() if only in name}
    if not chosen:
        raise UserError(f"{only}: there is no such check; there are {', '.join(suite.checks())}")
    root = ""
    for name, requirement in chosen.items():
        begins(name.replace("_", " "))
        since = time.perf_counter()
        result, detail = _run(suite, name)
        follows = root if result == "failed" else ""
        yield Outcome(name, requirement, result, detail, time.perf_counter() - since, follows)
        if result == "failed" and not root and name in suite.roots:
            root = name


def _run(suite: type[Suite], name: str) -> tuple[Literal["passed", "failed", "skipped"], str]:
    one = suite()
    method = getattr(one, PREFIX + name)
    try:
        one.setup_method(method)
        method()
    except SkipTest as reason:
        return "skipped", str(reason)
    except AssertionError as error:
        return "failed", first_line(error)
    except (Exception, SystemExit) as error:
        return "failed", f"{type(error).__name__}: {first_line(error)}{_place(error)}"
    return "passed", ""


def _place(error: BaseException) -> str:
    """Return the plugin's line that raised an error, if any."""
    here = Path(__file__).resolve().parents[1]
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if here not in Path(frame.filename).parents and f"{os.sep}torch{os.sep}" not in frame.filename
    ]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line})" if own else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip() or "no reason given").splitlines()[0]


def require(condition: Any, message: str) -> None:
    """Fail the check with this message unless the condition holds (``python -O`` would drop an ``assert``)."""
    if not condition:
        raise AssertionError(message)


def assert_close(what: str, actual: Tensor, expected: Tensor, tolerance: float = 1e-9, least: float = 1.0) -> None:
    """Require two tensors to agree in shape and values.

    Args:
        what: begins the message.
        actual: the tensor that is checked.
        expected: the right one.
        tolerance: relative to the largest entry of ``expected``; integers and bools must be equal.
        least: lower bound on that largest entry.

    Raises:
        AssertionError: they differ.
    """
    require(actual.shape == expected.shape, f"{what}: the shape is {tuple(actual.shape)}, not {tuple(expected.shape)}")
    if not expected.numel():
        return
    if not expected.is_floating_point() and not expected.is_complex():
        wrong = int((actual != expected).sum())
        require(not wrong, f"{what}: {wrong} of {expected.numel()} entries differ")
        return
    wide = torch.complex128 if expected.is_complex() else torch.float64
    actual, expected = actual.detach().to(wide), expected.detach().to(wide)
    odd = int((~actual.isfinite()).sum())
    same = torch.equal(actual.isfinite(), expected.isfinite())
    require(same, f"{what}: {odd} of {actual.numel()} entries are not finite")
    worst = float(torch.nan_to_num((actual - expected).abs()).max())
    allowed = tolerance * max(least, float(torch.nan_to_num(expected.abs(), posinf=0.0).max()))
    require(worst <= allowed, f"{what}: differs by {worst:.3g}; at most {allowed:.1g} is allowed")


def assert_all_close(
    where: str, actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-9
) -> None:
    """Apply :func:`assert_close` to each tensor of ``actual``, by name."""
    for name, value in actual.items():
        assert_close(f"{where}: {name}", value, expected[name], tolerance)
