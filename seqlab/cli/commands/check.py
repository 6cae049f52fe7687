"""What ``check`` is asked to check: from arguments to a suite."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.cli.parser import Parser
from seqlab.errors import UserError, one_line
from seqlab.plugins import config, kernels
from seqlab.plugins.config import is_pinned, pinned_parts
from seqlab.plugins.kernels import is_own
from seqlab.plugins.registry import find, plugins
from seqlab.recurrence.graphs import compilations
from seqlab.testing import CellSuite, KernelSuite, Outcome, PreprocessorSuite, Suite, TaskSuite, run_suite

KINDS: Mapping[str, tuple[type[Suite], str]] = {
    "cell": (CellSuite, "cell"),
    "kernel": (KernelSuite, "kernel"),
    "task": (TaskSuite, "task"),
    "preprocessing": (PreprocessorSuite, "preprocessor"),
}
"""What can be checked: the suite, and the attribute of it that takes the plugin."""

_COMPILED = "compiled_equals_the_loop"


@final
@dataclass(frozen=True)
class PluginCheck:
    """A plugin with its suite.

    Attributes:
        name: as it is typed.
        owner: the distribution and version that it is from.
        suite: of checks.
        only: part of the names of the checks to run; all unless given.
        kernel: the full name of a kernel of another distribution than seqlab.
        options: whether any option was given.
    """

    name: str
    owner: str
    suite: type[Suite]
    only: str = ""
    kernel: str | None = None
    options: bool = False


def suite_of(arguments: Sequence[str]) -> PluginCheck:
    """Make the suite of a plugin.

    Args:
        arguments: ``kind=name``, once, or a cell and a kernel, and ``kind.key=value``, as on the command line of a run.

    Raises:
        UserError: there is no such plugin, it is broken, or an option is.
    """
    chosen: dict[str, str] = {}
    options: list[str] = []
    for argument in arguments:
        key, _, name = argument.partition("=")
        if "." in key:
            options.append(argument)
        elif key not in KINDS or not name:
            if chosen:
                raise UserError(f"{argument}: an option must be {next(iter(chosen))}.KEY=VALUE")
            raise UserError(f"{argument}: what is to be checked must be KIND=NAME, KIND one of {', '.join(KINDS)}")
        elif key in chosen:
            raise UserError(f"{argument}: {key} is {chosen[key]} already; check one {key} at a time")
        else:
            chosen[key] = name
    if not chosen:
        raise UserError(f"{arguments[0]}: what is to be checked must be KIND=NAME, KIND one of {', '.join(KINDS)}")
    given = _given(chosen, options)
    if "kernel" in chosen or is_pinned(chosen.get("cell", "")):
        return _kernel(chosen, given)
    if len(chosen) > 1:
        raise UserError(f"{' '.join(f'{kind}={name}' for kind, name in chosen.items())}: check one plugin at a time")
    ((kind, name),) = chosen.items()
    suite, attribute = KINDS[kind]
    target = config.plugin_class(kind, name)
    made = {attribute: staticmethod(target), "options": _values(kind, name, given.get(kind, {}))}
    if kind == "cell":
        slow = f"it compiles for 10 to 40 s: python -m seqlab check cell={name} kernel=compiled"
        made["skips"] = {_COMPILED: slow}
    return PluginCheck(f"{kind}={name}", _owner(kind, name), _suite(target, suite, made))


def _kernel(chosen: Mapping[str, str], given: Mapping[str, dict[str, Any]]) -> PluginCheck:
    """Make the suite of a kernel over its cell."""
    if extra := set(chosen) - {"cell", "kernel"}:
        raise UserError(f"{extra.pop()} and a kernel are checked one at a time")
    cell, entry = _named(chosen)
    short = entry.partition(".")[2]
    scanned = config.plugin_class("cell", cell) if cell in plugins("cell") else None
    of_cell = _values("cell", cell, given.get("cell", {})) if scanned else {}
    if short == "compiled":
        made: dict[str, Any] = {"cell": staticmethod(config.plugin_class("cell", cell)), "options": of_cell}
        return PluginCheck(f"cell={cell} kernel=compiled", "seqlab", _suite(Suite, CellSuite, made), only=_COMPILED)
    target = config.plugin_class("kernel", entry)
    made = {
        "kernel": staticmethod(target),
        "options": of_cell,
        "kernel_options": _values("kernel", short, given.get("kernel", {})),
    }
    if scanned and issubclass(scanned, target.cell):  # type: ignore[attr-defined]  # a Kernel, as plugin_class holds
        made["cell"] = staticmethod(scanned)
    stranger = None if is_own(find("kernel", entry)) else entry
    some = any(given.values())
    return PluginCheck(
        f"kernel={entry}", _owner("kernel", entry), _suite(target, KernelSuite, made), "", stranger, some
    )


def _named(chosen: Mapping[str, str]) -> tuple[str, str]:
    """Name the cell, and the kernel in full, that were meant."""
    cell, kernel = chosen.get("cell", ""), chosen.get("kernel", "")
    if is_pinned(cell):
        cell, pinned = pinned_parts(cell)
        if kernel not in ("", pinned, f"{cell}.{pinned}"):
            raise UserError(
                f"cell={chosen['cell']} is cell={cell} with kernel={pinned}; kernel={kernel} is another one"
            )
        kernel = pinned
    if kernel in ("auto", "loop"):
        what = "chooses a kernel" if kernel == "auto" else "is what every kernel is held against"
        raise UserError(
            f"kernel={kernel} {what}; check one of {', '.join(plugins('kernel'))}, or cell=NAME kernel=compiled"
        )
    owner, dot, _ = kernel.rpartition(".")
    if dot:
        if cell and cell != owner:
            raise UserError(f"kernel={kernel} is for cell={owner}, and cell={cell} is another one")
        return owner, kernel
    if not cell:
        fitting = [entry.partition(".")[0] for entry in plugins("kernel") if entry.partition(".")[2] == kernel]
        if len(fitting) != 1:
            hint = (
                " or ".join(f"kernel={one}.{kernel}" for one in fitting) or f"there are {', '.join(plugins('kernel'))}"
            )
            raise UserError(f"kernel={kernel}: {'say which cell: ' if fitting else 'there is no such kernel; '}{hint}")
        cell = fitting[0]
    find("cell", cell)
    return cell, f"{cell}.{kernel}"


def _suite(target: type, suite: type[Suite], attributes: Mapping[str, Any]) -> type[Suite]:
    return type(f"Check{target.__name__}", (suite,), dict(attributes))


def _owner(kind: str, name: str) -> str:
    plugin = find(kind, name)
    return f"{plugin.distribution} {plugin.version}"


def _values(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check options as a run does, and give those that were given."""
    values = config.checked_arguments(kind, {"name": name, **given}) if given else {}
    return {key: values[key] for key in given}


def _given(chosen: Mapping[str, str], options: Sequence[str]) -> dict[str, dict[str, Any]]:
    for option in options:
        kind = option.partition(".")[0]
        pinned = kind == "kernel" and is_pinned(chosen.get("cell", ""))
        if (kind not in chosen and not (kind == "cell" and "kernel" in chosen) and not pinned) or "=" not in option:
            raise UserError(f"{option}: an option must be {next(iter(chosen), 'KIND')}.KEY=VALUE")
    try:
        nested = OmegaConf.to_container(OmegaConf.from_dotlist(list(options)))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(nested, dict)
    return {str(kind): {str(key): value for key, value in values.items()} for kind, values in nested.items()}


_STYLES = {"passed": "green", "failed": "red", "skipped": "yellow"}


def main(arguments: list[str]) -> int:
    """Run the checks one by one, say what came of them, and fail if one of them does."""
    asked = _parser().parse_args(arguments)
    what = suite_of([asked.plugin, *asked.options])
    console = Console(stderr=asked.json, highlight=False)
    since, compiling = time.perf_counter(), compilations.seconds
    with console.status("") as status:
        running = run_suite(what.suite, asked.only or what.only, lambda name: status.update(f"{what.name}: {name}"))
        outcomes = list(running)
    seconds, compiling = time.perf_counter() - since, compilations.seconds - compiling
    failed = any(one.result == "failed" for one in outcomes)
    trusted = "" if asked.only else _remembered(what, outcomes)
    if asked.json:
        record = {
            "plugin": asked.plugin,
            "options": asked.options,
            "passed": not failed,
            "seconds": seconds,
            "compile_seconds": compiling,
            "checks": [dataclasses.asdict(one) for one in outcomes],
        }
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return 1 if failed else 0
    if asked.verbose:
        console.print(_table(outcomes))
    _skips(console, outcomes)
    counts = ", ".join(f"{sum(one.result == kind for one in outcomes)} {kind}" for kind in _STYLES)
    spent = f"{seconds - compiling:.1f} s" + (f", and {compiling:.1f} s of compiling" if compiling >= 0.05 else "")
    console.print(f"{what.name} ({what.owner}): {counts}; {spent}", markup=False, soft_wrap=True)
    if trusted:
        console.print(trusted, markup=False, soft_wrap=True)
    _failures(console, outcomes)
    return 1 if failed else 0


def _parser() -> Parser:
    parser = Parser(
        "check",
        description="Run the conformance kit on a plugin, such as: seqlab check cell=lstm cell.hidden_size=8, "
        "or on a kernel over its cell: seqlab check cell=gru kernel=fused",
    )
    parser.add_argument("plugin", metavar="KIND=NAME", help=f"what to check; KIND is one of {', '.join(KINDS)}")
    parser.add_argument(
        "options", metavar="KIND.KEY=VALUE", nargs="*", help="the plugin's own options; kernel=NAME after a cell"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only the checks whose name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("-v", "--verbose", action="store_true", help="list the checks that passed as well")
    return parser


def _remembered(what: PluginCheck, outcomes: list[Outcome]) -> str:
    """Keep for ``kernel=auto`` whether another distribution's kernel passed; say so in a line."""
    if what.kernel is None or what.options:
        return ""
    results = {one.check: one.result for one in outcomes}
    passed = results.get("full_rows") == "passed" and "failed" not in results.values()
    kernels.record_trust(what.kernel, passed)
    short = what.kernel.partition(".")[2]
    if passed:
        return f"kernel=auto may now take {short} on this machine, until its code, torch or seqlab changes"
    return f"kernel=auto does not take {short}"


def _skips(console: Console, outcomes: list[Outcome]) -> None:
    for reason in dict.fromkeys(one.detail for one in outcomes if one.result == "skipped"):
        names = [one.check.replace("_", " ") for one in outcomes if one.result == "skipped" and one.detail == reason]
        shown = f"{', '.join(names[:3])} and {len(names) - 3} more" if len(names) > 4 else ", ".join(names)
        console.print(f"skipped: {shown}: {reason}", markup=False, soft_wrap=True)


def _failures(console: Console, outcomes: list[Outcome]) -> None:
    """Give each failure two lines; those that may follow from an earlier one share a line under it."""
    failed = [one for one in outcomes if one.result == "failed"]
    for one in failed:
        if one.follows:
            continue
        console.print(f"failed: {one.check.replace('_', ' ')}: {one.demand}", markup=False, soft_wrap=True, style="red")
        console.print(f"  {one.detail}", markup=False, soft_wrap=True)
        if after := [other.check.replace("_", " ") for other in failed if other.follows == one.check]:
            line = f"  {len(after)} more failed, which may follow from it (-v shows them): {', '.join(after)}"
            console.print(line, markup=False, soft_wrap=True)


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("check", "result", "what it demands, or what is wrong", "seconds")
    for one in outcomes:
        style = _STYLES[one.result]
        detail = one.demand if one.result == "passed" else one.detail
        name = escape(one.check.replace("_", " "))
        table.add_row(name, f"[{style}]{one.result}[/{style}]", escape(detail), f"{one.seconds:.1f}")
    return table
