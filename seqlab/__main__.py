"""Entry point of ``python -m seqlab``: a command, or training by Hydra."""

import gc
import os
import re
import sys
import warnings
from collections.abc import Callable
from importlib import import_module

COMMANDS = {
    "data": "show statistics and samples of the data: data task=NAME [key=value ...]",
    "fetch": "download and cache the data, for runs without a network: fetch task=NAME [key=value ...]",
    "status": "show the state of each run of a sweep: status SWEEP_DIR",
    "resume": "finish the runs of a sweep: resume SWEEP_DIR",
    "report": "write one page on the results of runs: report DIR... (of sweeps, of runs, or of both)",
    "compare": "compare two sets of runs, paired by seed: compare A B (folders, or with --in SWEEP_DIR labels)",
    "inspect": "plot gates, state and predictions along a text: inspect RUN_DIR TEXT",
    "context": "measure how much context a language model uses: context RUN_DIR",
    "predict": "predict with a trained model: predict RUN_DIR TEXT... (or --input FILE)",
    "evaluate": "score a trained model on new data: evaluate RUN_DIR --data FILE",
    "generate": "continue a text with a language model: generate RUN_DIR --prompt TEXT",
    "export": "write a model for other programs: export RUN_DIR --format torch-export|onnx|safetensors|state-dict",
    "verify": "check the files of a run and its test metric: verify RUN_DIR",
    "rerun": "train again with the config of a run: rerun RUN_DIR",
    "replay": "find where a non-finite loss or gradient starts: replay RUN_DIR/nonfinite",
    "reproduce": "run the settings of a paper and compare its figures: reproduce [RECIPE]",
    "check": "run the conformance tests of a plugin: check cell=NAME (or task=, preprocessing=, kernel=CELL.KERNEL)",
    "tune": "search settings by validation: tune task=NAME [key=value ...] [--minutes N]",
    "bench": "time the kernels of cells: bench [--cells ...] [--shapes BxTxIxH,...] [--tune]",
    "card": "measure a cell by one protocol, on one page: card cell=NAME [--quick]",
    "board": "merge cards into one leaderboard: board CARD...",
    "new": "write the files of a new plugin: new cell NAME (or task, preprocessing)",
    "plugins": "list the installed plugins: plugins [KIND]",
}
"""Commands, each with a line of help."""
MODULES = {
    "data": "data:data",
    "fetch": "data:fetch",
    "status": "sweeps:status",
    "resume": "sweeps:resume",
    "report": "reports:report",
    "compare": "reports:compare_runs",
    "inspect": "inspection:inspect_text",
    "context": "inspection:context",
    "generate": "model:generate",
    "export": "model:export",
    "verify": "verification:verify",
    "rerun": "verification:rerun",
    "replay": "verification:replay",
    "new": "plugins:new",
    "plugins": "plugins:plugins_table",
}
"""Module and function in ``seqlab.cli.commands`` of the commands that are not ``main`` of the module of their name."""
TRAINING = ("resume", "rerun", "reproduce", "tune", "card")
"""Commands that write their results to files: they continue if stdout cannot be written."""

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Environment of GNU's and Intel's OpenMP, read when torch is loaded: waiting threads sleep instead of spinning."""


def main() -> None:
    """Run the command line; the exit code is 1 for a wrong argument or a failed run."""
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)
    if os.environ.get("COLUMNS", "").strip() == "0":
        del os.environ["COLUMNS"]  # some terminals and CI set 0; tables would be empty
    if not sys.warnoptions:  # which plugins are written for an older plugin API, and what to change
        warnings.filterwarnings("default", ".*plugin API", DeprecationWarning)
    gc.set_threshold(10_000, 50, 50)  # collections during imports take a tenth of the start-up time
    arguments = sys.argv[1:]
    from seqlab.cli.terminal import guarded_streams

    command = arguments[0] if arguments and re.fullmatch(r"[a-z][a-z-]*", arguments[0]) else None
    with guarded_streams(keep_going=command is None or command in TRAINING):
        try:
            os.getcwd()  # noqa: PTH109  # called for its error alone
        except OSError as error:
            print(f"the working folder cannot be used ({error.strerror}): cd to another one", file=sys.stderr)
            sys.exit(1)
        if arguments in (["--help"], ["-h"]):
            from seqlab.cli.help import overview

            overview(COMMANDS)
            sys.exit(0)
        if command is not None:
            sys.exit(_command(command, arguments[1:]))
        from seqlab.cli.train import train

        sys.exit(train(arguments))


def _command(name: str, arguments: list[str]) -> int:
    if name not in COMMANDS:
        if arguments[:1] == ["="]:
            print(f"{name} = {' '.join(arguments[1:])}: remove the blanks beside the =: {name}=...", file=sys.stderr)
            return 1
        names = ", ".join(COMMANDS)
        print(f"{name}: there is no such command; there are {names}; options are key=value", file=sys.stderr)
        return 1
    from seqlab.cli.errors import report_errors

    return report_errors(lambda: function_of(name)(arguments))


def function_of(name: str) -> Callable[[list[str]], int]:
    """Import the function of a command, which takes arguments and returns the exit code."""
    module, _, function = MODULES.get(name, f"{name}:main").partition(":")
    found: Callable[[list[str]], int] = getattr(import_module(f"seqlab.cli.commands.{module}"), function)
    return found


if __name__ == "__main__":
    main()
