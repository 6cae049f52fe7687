"""``check``: run the conformance tests of a plugin."""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.text import Text

from seqlab.cli.output import Output, print_json
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
"""Suite of each kind, and the attribute of the suite that takes the plugin."""

_COMPILED = "compiled_equals_the_loop"
_STYLES = {"passed": "green", "failed": "red", "skipped": "yellow"}


@final
@dataclass(frozen=True)
class PluginCheck:
    """Conformance tests of a plugin; ``kernel`` is the full name of a kernel whose distribution is not seqlab."""

    name: str
    owner: str
    suite: type[Suite]
    only: str = ""
    kernel: str | None = None
    has_options: bool = False


def main(arguments: list[str]) -> int:
    """Run the tests one by one; the exit code is 1 if one of them fails."""
    args = _parse(arguments)
    checked = suite_of([args.plugin, *args.options])
    out = Output(stderr=args.json)
    since, compiling = time.perf_counter(), compilations.seconds
    with out.status("") as status:
        only = args.only or checked.only
        outcomes = list(run_suite(checked.suite, only, lambda name: status.update(f"{checked.name}: {name}")))
    seconds, compiling = time.perf_counter() - since, compilations.seconds - compiling
    failed = any(one.result == "failed" for one in outcomes)
    trust = "" if args.only else _record_trust(checked, outcomes)
    if args.json:
        print_json({
            "plugin": args.plugin,
            "options": args.options,
            "passed": not failed,
            "seconds": seconds,
            "compile_seconds": compiling,
            "checks": [dataclasses.asdict(one) for one in outcomes],
        })  # fmt: skip
        return int(failed)
    if args.verbose:
        out.print_table(("test", "result", "requirement or failure", "seconds"), map(_row, outcomes))
    counts = ", ".join(f"{sum(one.result == kind for one in outcomes)} {kind}" for kind in _STYLES)
    spent = f"{seconds - compiling:.1f} s" + (f", and {compiling:.1f} s of compilation" if compiling >= 0.05 else "")
    summary = f"{checked.name} ({checked.owner}): {counts}; {spent}"
    for line in (*_skipped(outcomes), summary, *filter(None, [trust]), *_failed(outcomes)):
        out.print_line(line, "red" if line.startswith("failed: ") else None)
    return int(failed)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "check",
        description="Run the conformance tests of a plugin, such as: seqlab check cell=lstm cell.hidden_size=8, "
        "or of a kernel on its cell: seqlab check cell=gru kernel=fused",
    )
    parser.add_argument("plugin", metavar="KIND=NAME", help=f"plugin to check; KIND is one of {', '.join(KINDS)}")
    parser.add_argument(
        "options", metavar="KIND.KEY=VALUE", nargs="*", default=[], help="options of the plugin; kernel=NAME of a cell"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="run the tests whose name contains TEXT")
    parser.add_json()
    parser.add_argument("-v", "--verbose", action="store_true", help="list passed tests, too")
    return parser.parse(arguments)


def suite_of(arguments: Sequence[str]) -> PluginCheck:
    """Build the suite of a plugin."""
    chosen, options = _split(arguments)
    given = _given(chosen, options)
    if "kernel" in chosen or is_pinned(chosen.get("cell", "")):
        return _kernel_check(chosen, given)
    if len(chosen) > 1:
        raise UserError(f"{' '.join(f'{kind}={name}' for kind, name in chosen.items())}: check one plugin at a time")
    ((kind, name),) = chosen.items()
    suite, attribute = KINDS[kind]
    target = config.plugin_class(kind, name)
    attributes = {attribute: staticmethod(target), "options": _values(kind, name, given.get(kind, {}))}
    if kind == "cell":
        slow = f"it compiles for 10 to 40 s: python -m seqlab check cell={name} kernel=compiled"
        attributes["skips"] = {_COMPILED: slow}
    return PluginCheck(f"{kind}={name}", _owner(kind, name), _subclass(target, suite, attributes))


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split arguments into plugins by kind, and options."""
    chosen: dict[str, str] = {}
    options: list[str] = []
    for argument in arguments:
        key, _, name = argument.partition("=")
        if "." in key:
            options.append(argument)
        elif key in KINDS and name and key not in chosen:
            chosen[key] = name
        elif key in KINDS and name:
            raise UserError(f"{argument}: {key} is {chosen[key]} already; check one {key} at a time")
        elif chosen:
            raise UserError(f"{argument}: an option must be {next(iter(chosen))}.KEY=VALUE")
        else:
            raise UserError(f"{argument} must be KIND=NAME, KIND one of {', '.join(KINDS)}")
    if not chosen:
        raise UserError(f"{arguments[0]}: the plugin must be given as KIND=NAME, KIND one of {', '.join(KINDS)}")
    return chosen, options


def _kernel_check(chosen: Mapping[str, str], given: Mapping[str, dict[str, Any]]) -> PluginCheck:
    """Build the suite of a kernel on its cell."""
    if extra := set(chosen) - {"cell", "kernel"}:
        raise UserError(f"{extra.pop()} and a kernel must be checked one at a time")
    cell, entry = _names(chosen)
    short = entry.partition(".")[2]
    cell_class = config.plugin_class("cell", cell) if cell in plugins("cell") else None
    cell_options = _values("cell", cell, given.get("cell", {})) if cell_class else {}
    if short == "compiled":
        compiled = {"cell": staticmethod(config.plugin_class("cell", cell)), "options": cell_options}
        suite = _subclass(Suite, CellSuite, compiled)
        return PluginCheck(f"cell={cell} kernel=compiled", "seqlab", suite, only=_COMPILED)
    target = config.plugin_class("kernel", entry)
    attributes = {
        "kernel": staticmethod(target),
        "options": cell_options,
        "kernel_options": _values("kernel", short, given.get("kernel", {})),
    }
    if cell_class and issubclass(cell_class, target.cell):  # type: ignore[attr-defined]  # plugin_class returns a Kernel
        attributes["cell"] = staticmethod(cell_class)
    return PluginCheck(
        f"kernel={entry}",
        _owner("kernel", entry),
        _subclass(target, KernelSuite, attributes),
        kernel=None if is_own(find("kernel", entry)) else entry,
        has_options=any(given.values()),
    )


def _names(chosen: Mapping[str, str]) -> tuple[str, str]:
    """Return the name of the cell and the full name of the kernel."""
    cell, kernel = chosen.get("cell", ""), chosen.get("kernel", "")
    if is_pinned(cell):
        cell, pinned = pinned_parts(cell)
        if kernel not in ("", pinned, f"{cell}.{pinned}"):
            raise UserError(f"cell={chosen['cell']} is cell={cell} with kernel={pinned}, but kernel={kernel} was given")
        kernel = pinned
    if kernel in ("auto", "loop"):
        what = "chooses a kernel" if kernel == "auto" else "is the reference that kernels are compared with"
        raise UserError(
            f"kernel={kernel} {what}; check one of {', '.join(plugins('kernel'))}, or cell=NAME kernel=compiled"
        )
    owner, dot, _ = kernel.rpartition(".")
    if dot:
        if cell and cell != owner:
            raise UserError(f"kernel={kernel} is for cell={owner}, but cell={cell} was given")
        return owner, kernel
    if not cell:
        fitting = [entry.partition(".")[0] for entry in plugins("kernel") if entry.partition(".")[2] == kernel]
        if not fitting:
            raise UserError(f"kernel={kernel}: there is no such kernel; there are {', '.join(plugins('kernel'))}")
        if len(fitting) > 1:
            raise UserError(
                f"kernel={kernel} must name its cell: {' or '.join(f'kernel={one}.{kernel}' for one in fitting)}"
            )
        cell = fitting[0]
    find("cell", cell)
    return cell, f"{cell}.{kernel}"


def _subclass(target: type, suite: type[Suite], attributes: Mapping[str, Any]) -> type[Suite]:
    return type(f"Check{target.__name__}", (suite,), dict(attributes))


def _owner(kind: str, name: str) -> str:
    plugin = find(kind, name)
    return f"{plugin.distribution} {plugin.version}"


def _values(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check options as a run does; return those that were given."""
    values = config.checked_arguments(kind, {"name": name, **given}) if given else {}
    return {key: values[key] for key in given}


def _given(chosen: Mapping[str, str], options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the options by kind."""
    kinds = set(chosen)
    if "kernel" in chosen:
        kinds.add("cell")
    if is_pinned(chosen.get("cell", "")):
        kinds.add("kernel")
    for option in options:
        if option.partition(".")[0] not in kinds or "=" not in option:
            raise UserError(f"{option}: an option must be {next(iter(chosen))}.KEY=VALUE")
    try:
        nested = OmegaConf.to_container(OmegaConf.from_dotlist(list(options)))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(nested, dict)
    return {str(kind): {str(key): value for key, value in values.items()} for kind, values in nested.items()}


def _record_trust(checked: PluginCheck, outcomes: Sequence[Outcome]) -> str:
    """Record for ``kernel=auto`` whether a kernel of another distribution passed; return a line about it."""
    if checked.kernel is None or checked.has_options:
        return ""
    results = {one.check: one.result for one in outcomes}
    passed = results.get("full_rows") == "passed" and "failed" not in results.values()
    kernels.record_trust(checked.kernel, passed)
    short = checked.kernel.partition(".")[2]
    if passed:
        return f"kernel=auto may now use {short} on this machine, until its code, torch or seqlab changes"
    return f"kernel=auto does not use {short}"


def _title(outcome: Outcome) -> str:
    return outcome.check.replace("_", " ")


def _skipped(outcomes: Sequence[Outcome]) -> Iterator[str]:
    skipped = [one for one in outcomes if one.result == "skipped"]
    for reason in dict.fromkeys(one.detail for one in skipped):
        names = [_title(one) for one in skipped if one.detail == reason]
        shown = f"{', '.join(names[:3])} and {len(names) - 3} more" if len(names) > 4 else ", ".join(names)
        yield f"skipped: {shown}: {reason}"


def _failed(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield two lines for each failure; failures that may follow from an earlier one share a line below it."""
    failed = [one for one in outcomes if one.result == "failed"]
    for one in failed:
        if one.follows:
            continue
        yield f"failed: {_title(one)}: {one.demand}"
        yield f"  {one.detail}"
        if after := [_title(other) for other in failed if other.follows == one.check]:
            yield f"  {len(after)} more failed, which may follow from it (-v shows them): {', '.join(after)}"


def _row(outcome: Outcome) -> tuple[str | Text, ...]:
    detail = outcome.demand if outcome.result == "passed" else outcome.detail
    return _title(outcome), Text(outcome.result, _STYLES[outcome.result]), detail, f"{outcome.seconds:.1f}"
