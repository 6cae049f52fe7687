"""What all suites share: a suite is a class of checks that pytest runs as tests, and ``seqlab check`` one by one."""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final
from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.errors import UserError

PREFIX = "test_"


class Suite:
    """Checks of one plugin: each method whose name begins with ``test_`` is one.

    A subclass names the plugin, and pytest finds the rest::

        class TestMyCell(CellSuite):
            cell = MyCell
    """

    skips: ClassVar[Mapping[str, str]] = {}
    """Checks that do not apply, by name without ``test_``, and why: a surrogate gradient, say, is no derivative."""
    roots: ClassVar[tuple[str, ...]] = ()
    """Checks whose failure may be the cause of every failure after it."""

    def setup_method(self, method: Callable[..., Any]) -> None:
        """Seed the random numbers, so that a failure comes again."""
        name = method.__name__.removeprefix(PREFIX)
        if name in self.skips:
            raise SkipTest(self.skips[name])
        torch.manual_seed(0)

    @classmethod
    def checks(cls) -> dict[str, str]:
        """List the checks in the order they are written: name, and what it demands in one line."""
        found: dict[str, str] = {}
        for owner in reversed(cls.__mro__):
            for name in vars(owner):
                if name.startswith(PREFIX) and callable(method := getattr(cls, name)):
                    found[name.removeprefix(PREFIX)] = (method.__doc__ or "").strip().partition("\n")[0]
        return found


@final
@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Attributes:
        check: its name.
        demand: what it demands, in one line.
        result: ``passed``, ``failed`` or ``skipped``.
        detail: why it failed, with the offending number, or why it was skipped.
        seconds: how long it took.
        follows: the failed check before it that may be the cause of this failure, if there is one.
    """

    check: str
    demand: str
    result: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float
    follows: str = ""


def run_suite(suite: type[Suite], only: str = "", begins: Callable[[str], object] = str) -> Iterator[Outcome]:
    """Run the checks whose name contains ``only``, one after another; a failing one does not stop the rest.

    Args:
        suite: the suite of one plugin.
        only: part of a check's name; all checks have the empty one.
        begins: is told the name of each check before it runs.

    Raises:
        UserError: no check is called like that.
    """
    chosen = {name: demand for name, demand in suite.checks().items() if only in name}
    if not chosen:
        raise UserError(f"{only}: there is no such check; there are {', '.join(suite.checks())}")
    root = ""
    for name, demand in chosen.items():
        begins(name.replace("_", " "))
        since = time.perf_counter()
        result, detail = _outcome(suite, name)
        follows = root if result == "failed" else ""
        yield Outcome(name, demand, result, detail, time.perf_counter() - since, follows)
        if result == "failed" and not root and name in suite.roots:
            root = name


def _outcome(suite: type[Suite], name: str) -> tuple[Literal["passed", "failed", "skipped"], str]:
    """Run one check: what came of it, and why."""
    one = suite()
    method = getattr(one, PREFIX + name)
    try:
        one.setup_method(method)
        method()
    except SkipTest as reason:
        return "skipped", str(reason)
    except AssertionError as error:
        return "failed", _first_line(error)
    except (Exception, SystemExit) as error:
        return "failed", f"{type(error).__name__}: {_first_line(error)}{_place(error)}"
    return "passed", ""


def _place(error: BaseException) -> str:
    """Name the plugin's line that raised an error; nothing where no line of a plugin did."""
    here = Path(__file__).resolve().parents[1]
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if here not in Path(frame.filename).parents and f"{os.sep}torch{os.sep}" not in frame.filename
    ]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line})" if own else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]


def demand(holds: Any, message: str) -> None:
    """Fail a check with this message unless something holds (not ``assert``, which ``python -O`` leaves out)."""
    if not holds:
        raise AssertionError(message)


def agree(what: str, actual: Tensor, expected: Tensor, tolerance: float = 1e-9, least: float = 1.0) -> None:
    """Demand that two tensors agree in shape, and in every entry to a tolerance that grows with the largest entry.

    Args:
        what: what they are, for the message.
        actual: the tensor that is checked.
        expected: the right one.
        tolerance: relative to the largest entry.
        least: what the largest entry is taken to be at least.

    Raises:
        AssertionError: they differ.
    """
    demand(actual.shape == expected.shape, f"{what}: the shape is {tuple(actual.shape)}, not {tuple(expected.shape)}")
    if not expected.numel():
        return
    if not expected.is_floating_point() and not expected.is_complex():
        wrong = int((actual != expected).sum())
        demand(not wrong, f"{what}: {wrong} of {expected.numel()} entries differ")
        return
    wide = torch.complex128 if expected.is_complex() else torch.float64
    actual, expected = actual.detach().to(wide), expected.detach().to(wide)
    demand(
        bool((actual.isfinite() == expected.isfinite()).all()),
        f"{what}: {int((~actual.isfinite()).sum())} of {actual.numel()} entries are not finite",
    )
    difference = torch.nan_to_num((actual - expected).abs())
    finite = torch.nan_to_num(expected.abs(), posinf=0.0)
    allowed = tolerance * max(least, float(finite.max()))
    worst = float(difference.max())
    demand(worst <= allowed, f"{what}: differs by {worst:.3g}; at most {allowed:.1g} is right")
