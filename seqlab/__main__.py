"""``python -m seqlab``: a command, or Hydra's train."""

import gc
import os
import re
import sys
import warnings
from collections.abc import Callable
from importlib import import_module

COMMANDS = {
    "data": "see what will be trained on: data task=NAME [key=value ...]",
    "fetch": "fill the caches, for runs without a network: fetch task=NAME [key=value ...]",
    "status": "what became of each run of a sweep: status SWEEP_DIR",
    "resume": "do the runs of a sweep that are not done: resume SWEEP_DIR",
    "report": "one page on what runs found: report DIR... (of sweeps, of runs, or of some of them)",
    "compare": "differences between two, paired by seed: compare A B (folders, or with --in SWEEP_DIR labels)",
    "inspect": "see gates, state and predictions along a text: inspect RUN_DIR TEXT",
    "context": "how much of what it read a language model uses: context RUN_DIR",
    "predict": "predict with a trained model: predict RUN_DIR TEXT... (or --input FILE)",
    "evaluate": "score a trained model on new data: evaluate RUN_DIR --data FILE",
    "generate": "let a language model write: generate RUN_DIR --prompt TEXT",
    "export": "write a model for others to run: export RUN_DIR --format torch-export|onnx|safetensors|state-dict",
    "verify": "is a run folder whole, and does its test metric come out again: verify RUN_DIR",
    "rerun": "train once more from a run's folder: rerun RUN_DIR",
    "replay": "see where a loss that is no number begins: replay RUN_DIR/nonfinite",
    "reproduce": "run a paper's settings and compare the figures: reproduce [RECIPE]",
    "check": "prove that a plugin is right: check cell=NAME (or task=, preprocessing=, kernel=CELL.KERNEL)",
    "bench": "measure the kernels of cells: bench [--cells ...] [--shapes BxTxIxH,...] [--tune]",
    "new": "begin a plugin of your own: new cell NAME (or task, preprocessing)",
    "plugins": "list what is plugged in: cells, models, tasks, preprocessing, kernels",
}
"""Commands, each with one line of help."""
MODULES = {
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
"""Module and function in ``seqlab.cli.commands`` of those that are not ``main`` of the module of their name."""
TRAINING = ("resume", "rerun", "reproduce")
"""Commands that train and leave their results in files: they go on if stdout cannot be written."""

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Environment of GNU's and Intel's OpenMP, read when torch is loaded: threads that wait sleep instead of spinning."""


def main() -> None:
    """Run the command line; the exit code is 1 for a user's mistake or a failed run."""
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)
    if os.environ.get("COLUMNS", "").strip() == "0":
        del os.environ["COLUMNS"]  # as some terminals and CI set it; tables would be empty
    if not sys.warnoptions:  # which plugins are written for an older plugin API, and what to change
        warnings.filterwarnings("default", ".*plugin API", DeprecationWarning)
    gc.set_threshold(10_000, 50, 50)  # looking for cycles in what imports make is a tenth of the time to start
    arguments = sys.argv[1:]
    from seqlab.cli.terminal import guarded_streams

    command = arguments[0] if arguments and re.fullmatch(r"[a-z][a-z-]*", arguments[0]) else None
    with guarded_streams(keep_going=command is None or command in TRAINING):
        try:
            os.getcwd()  # noqa: PTH109  # which is what everything else asks
        except OSError as error:
            print(f"the working folder cannot be used ({error.strerror}): cd to one that is there", file=sys.stderr)
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
            print(f"{name} = {' '.join(arguments[1:])}: no blanks stand beside the =: {name}=...", file=sys.stderr)
            return 1
        there_are = ", ".join(COMMANDS)
        print(f"{name}: there is no such command; there are {there_are}; options are key=value", file=sys.stderr)
        return 1
    from seqlab.cli.errors import report_errors

    return report_errors(lambda: function_of(name)(arguments))


def function_of(name: str) -> Callable[[list[str]], int]:
    """Import the function of a command: it takes the arguments and returns the exit code."""
    module, _, function = MODULES.get(name, f"{name}:main").partition(":")
    found: Callable[[list[str]], int] = getattr(import_module(f"seqlab.cli.commands.{module}"), function)
    return found


if __name__ == "__main__":
    main()
