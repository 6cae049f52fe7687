"""``check cell=mycell``: run the conformance kit on a plugin."""

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.discovery.config import checked, plugin_class
from seqlab.discovery.registry import one_line
from seqlab.errors import UserError
from seqlab.recurrence.compilations import compilations
from seqlab.testing import CellSuite, KernelSuite, Outcome, PreprocessorSuite, Suite, TaskSuite, run_suite
from seqlab.verbs.arguments import Parser

_KINDS: Mapping[str, tuple[type[Suite], str]] = {
    "cell": (CellSuite, "cell"),
    "kernel": (KernelSuite, "kernel"),
    "task": (TaskSuite, "task"),
    "preprocessing": (PreprocessorSuite, "preprocessor"),
}
"""What can be checked: the suite, and the attribute of it that takes the plugin."""

_STYLES = {"passed": "green", "failed": "red", "skipped": "yellow"}


def main(arguments: list[str]) -> int:
    """Run the checks one by one, print a table, and fail if one of them does."""
    parser = Parser(
        "check",
        description="Run the conformance kit on a plugin, such as: seqlab check cell=lstm cell.hidden_size=8",
    )
    parser.add_argument("plugin", metavar="KIND=NAME", help=f"what to check; KIND is one of {', '.join(_KINDS)}")
    parser.add_argument("options", metavar="KIND.KEY=VALUE", nargs="*", help="the plugin's own options")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the checks whose name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args(arguments)
    suite = suite_for(asked.plugin, asked.options)
    console = Console(stderr=asked.json)
    outcomes: list[Outcome] = []
    since, compiling = time.perf_counter(), compilations.seconds
    with console.status("") as status:
        running = run_suite(suite, asked.only, lambda name: status.update(f"{asked.plugin}: {name}"))
        outcomes.extend(running)
    seconds, compiling = time.perf_counter() - since, compilations.seconds - compiling
    failed = sum(one.result == "failed" for one in outcomes)
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
    else:
        console.print(_table(outcomes))
        counts = ", ".join(f"{sum(one.result == kind for one in outcomes)} {kind}" for kind in _STYLES)
        console.print(f"{asked.plugin}: {counts}; {seconds - compiling:.1f} s, and {compiling:.1f} s of compiling")
    return 1 if failed else 0


def suite_for(plugin: str, options: list[str]) -> type[Suite]:
    """Make the suite of a plugin.

    Args:
        plugin: ``kind=name``, a kernel by its full name, such as ``kernel=lstm.vendor``.
        options: ``kind.key=value``, as on the command line of a run.

    Raises:
        UserError: there is no such plugin, it is broken, or an option is.
    """
    kind, _, name = plugin.partition("=")
    if kind not in _KINDS or not name:
        raise UserError(f"{plugin}: what is to be checked must be KIND=NAME, KIND one of {', '.join(_KINDS)}")
    target = plugin_class(kind, name)
    given = _given(kind, options)
    if kind != "kernel":
        values = checked(kind, {"name": name, **given})
        given = {key: values[key] for key in given}
    elif given:
        raise UserError(f"kernel={name} is checked with its default options; leave out {', '.join(options)}")
    suite, attribute = _KINDS[kind]
    return type(f"Check{target.__name__}", (suite,), {attribute: staticmethod(target), "options": given})


def _given(kind: str, options: list[str]) -> dict[str, Any]:
    for option in options:
        if not option.startswith(f"{kind}.") or "=" not in option:
            raise UserError(f"{option}: an option must be {kind}.KEY=VALUE")
    try:
        nested = OmegaConf.to_container(OmegaConf.from_dotlist(options))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(nested, dict)
    return {str(key): value for key, value in nested.get(kind, {}).items()}


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("check", "result", "what it demands, or what is wrong", "seconds")
    for one in outcomes:
        style = _STYLES[one.result]
        detail = one.demand if one.result == "passed" else one.detail
        name = escape(one.check.replace("_", " "))
        table.add_row(name, f"[{style}]{one.result}[/{style}]", escape(detail), f"{one.seconds:.1f}")
    return table
