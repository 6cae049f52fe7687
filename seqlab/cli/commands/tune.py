"""``tune``: search the settings of a task on its validation split, and score the winner on the test split."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.cli.arguments import add_overrides, parse_overrides
from seqlab.cli.parser import Parser, integer, path
from seqlab.errors import UserError

if TYPE_CHECKING:
    from seqlab.study.tune.search import Settings

_FOLDER = Path("runs") / "tune"
_MINUTES = 10.0


def main(arguments: list[str]) -> int:
    """Search, or go on with a search; the exit code is 1 if no trial is complete."""
    args = _parse(arguments)
    command = parse_overrides(args)
    from seqlab.plugins.hydra_source import using_sources
    from seqlab.study.tune.study import require_optuna

    require_optuna()
    with using_sources(command.sources):
        return _search(_settings(args, list(command.overrides)), arguments)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "tune",
        description="Search preprocessing, model, cell and training on the validation split; the test split is scored "
        "once, by the winner, with the linear baseline and the default model beside it. An override with one value "
        "fixes its key, one with several (cell=lstm,gru) sets the values to search. The same command goes on.",
    )
    add_overrides(parser, "settings, such as task=textclf task.data=FILE")
    parser.add_argument("--minutes", type=_positive, metavar="N", help=f"time to search ({_MINUTES:g}, or no limit)")
    parser.add_argument("--trials", type=integer(1), metavar="N", help="number of trials (no limit)")
    parser.add_argument("--processes", type=integer(1), metavar="N", help="processes that train (half of the cores)")
    parser.add_argument("--metric", metavar="NAME", help="of validation (macro_f1, or what the task monitors)")
    parser.add_argument("--seed", type=integer(0), default=0, metavar="N", help="of the sampler (%(default)s)")
    parser.add_argument("--out", type=path, metavar="FOLDER", help="folder of the search (runs/tune/KEY)")
    return parser.parse(arguments)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of minutes > 0, got {text}")
    return value


def _settings(args: argparse.Namespace, overrides: list[str]) -> "Settings":
    from seqlab.io.safe_io import check_links
    from seqlab.plugins.hydra_source import sources
    from seqlab.study.tune.search import Settings
    from seqlab.sweeps.overrides import override_key
    from seqlab.sweeps.plan import sweep_key

    for word in overrides:
        if override_key(word).startswith(("hydra.", "hydra/")):
            raise UserError(
                f"{word}: tune has no settings of Hydra; --out FOLDER names the folder, --processes N trains"
            )
    key = sweep_key([*sources().arguments, *overrides, f"tune.metric={args.metric}", f"tune.seed={args.seed}"])
    folder = args.out or _FOLDER / key
    check_links(folder)
    minutes = _MINUTES if args.minutes is None and args.trials is None else args.minutes
    processes = args.processes or max(1, len(os.sched_getaffinity(0)) // 2)
    return Settings(folder, tuple(overrides), args.metric, args.seed, processes, minutes, args.trials, key)


def _search(settings: "Settings", arguments: list[str]) -> int:
    from seqlab.cli.tuning import Live, show
    from seqlab.runs.ownership import owned_alone
    from seqlab.study.tune.results import write_outcome
    from seqlab.study.tune.search import Search, repeat_command

    live = Live()
    search = Search(settings, live.update)
    with owned_alone(settings.folder, "searches"):
        try:
            with live:
                search.open()
                live.begin(search)
                rows = search.run(live.scoring)
        except KeyboardInterrupt:
            print(f"stopped; to go on: {repeat_command(arguments)}", file=sys.stderr)
            raise
        outcome = write_outcome(search, rows, repeat_command(arguments))
    show(outcome)
    return 0
