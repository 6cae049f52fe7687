"""Training by Hydra: one run, or a sweep with ``-m``."""

import logging
import math
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seqlab.cli.multirun import output_folder, write_hydra
from seqlab.errors import UserError

if TYPE_CHECKING:
    from seqlab.runs.results import Result

log = logging.getLogger("seqlab")

TRY_AGAIN = 75
"""Exit code of a run that was told to stop and can go on: ``EX_TEMPFAIL`` of sysexits.h."""


def train(arguments: list[str]) -> int:
    """Compose the config that the arguments describe, and run it.

    Returns:
        The exit code: 1 if the config cannot be composed or a run failed.
    """
    if os.environ.get("HYDRA_FULL_ERROR") != "1":
        # Hydra then raises instead of printing its own advice, and the error is shown here, in one line.
        os.environ |= {"HYDRA_FULL_ERROR": "1", "SEQLAB_SET_FULL_ERROR": "1"}
    from seqlab.cli.errors import report_errors

    return report_errors(lambda: _train(arguments))


def _train(arguments: list[str]) -> int:
    from seqlab.cli.arguments import check_overrides, check_working_folder, parse
    from seqlab.cli.config_dir import check_config_dir
    from seqlab.plugins.hydra_source import register, using_sources

    register()
    asked = parse(arguments)
    words = list(asked.overrides)
    with using_sources(asked.sources):
        check_config_dir(words)
        check_overrides(words)
        if asked.asks_help:
            return _help(words)
        if asked.is_look:
            _hydra_main(_no_run, asked.flags, words)
            return 0
        check_working_folder()
        if asked.is_sweep:
            return _sweep(words)
        return _single_run(arguments, words)


def _no_run(config: DictConfig) -> None:
    """Stand in for a run where Hydra prints something instead."""


def _single_run(arguments: list[str], words: list[str]) -> int:
    from seqlab.cli.multirun import check_plugins, refuse_search
    from seqlab.config.compose import check_run

    checked = check_run(words)  # before Hydra makes a folder
    if any(word.startswith(("+hydra.", "++hydra.")) for word in words):
        check_plugins(checked.hydra)
    refuse_search(words, str(checked.hydra.runtime.choices["hydra/sweeper"]))
    failures: list[str] = []
    keep_empty = _names_folder_that_exists(words)

    def job(config: DictConfig) -> None:
        from seqlab.distributed.devices import is_follower
        from seqlab.training.ranks import released_ranks, run_worker_rank

        folder = output_folder()
        if is_follower():
            run_worker_rank(folder)
            return
        with released_ranks(folder):
            result, failure = single(config, arguments, keep_empty=keep_empty)
        if result is None:
            failures.append(str(failure))
        else:
            _show(result)

    _hydra_main(job, ["--run"], words)
    return 1 if failures else 0


def _hydra_main(job: Callable[[DictConfig], Any], flags: Sequence[str], words: Sequence[str]) -> None:
    """Have Hydra do what flags and overrides ask for, from the sources that are in use."""
    import hydra

    from seqlab.plugins.hydra_internals import VERSION_BASE
    from seqlab.plugins.hydra_source import sources

    sys.argv = ["seqlab", *flags, *words]
    hydra.main(config_path="pkg://seqlab_conf", config_name=sources().name, **VERSION_BASE)(job)()


def _names_folder_that_exists(words: Sequence[str]) -> bool:
    """Whether the run folder is one that the user made, which stays even if the run is refused."""
    given = [value for key, _, value in (word.partition("=") for word in words) if key == "hydra.run.dir"]
    return bool(given) and Path(given[-1].strip("'\"")).is_dir()


def _sweep(words: list[str]) -> int:
    from seqlab.cli.multirun import finish, prepare
    from seqlab.sweeps.plan import register_run_name

    register_run_name()
    words, folder = prepare(words)
    _hydra_main(one_of_many, ["--multirun"], words)
    return finish(folder)


def _help(words: list[str]) -> int:
    from seqlab.cli.help import choice_help
    from seqlab.config.compose import compose

    choice_help(compose(words))
    return 0


def one_of_many(config: DictConfig) -> float:
    """Do a run of a sweep, unless it is done or another process does it; go on with one that was begun.

    Returns:
        The best validation value of the monitored metric, which no test score enters; NaN if the run failed, so that
        the runs after it are done.

    Raises:
        UserError: there is no value, and the sweeper optimises: how many such runs it takes is a setting of its own.
    """
    from hydra.core.hydra_config import HydraConfig

    from seqlab.distributed.devices import is_follower
    from seqlab.errors import UserError
    from seqlab.sweeps.direction import missing_value_cause
    from seqlab.training.ranks import released_ranks, run_worker_rank

    folder = output_folder()
    if is_follower():
        run_worker_rank(folder)
        return math.nan
    with released_ranks(folder):
        value = _one_of_many(config, folder)
    if math.isnan(value) and (reason := missing_value_cause(folder, HydraConfig.get().sweeper)) is not None:
        raise UserError(reason)
    return value


def _one_of_many(config: DictConfig, folder: Path) -> float:
    from hydra.core.hydra_config import HydraConfig

    from seqlab.cli.multirun import progress
    from seqlab.runs.ownership import OwnedError, owned_folder
    from seqlab.sweeps import resources
    from seqlab.sweeps.ledger import job_id, read_entry, write_queued
    from seqlab.sweeps.plan import is_selected

    words = list(HydraConfig.get().overrides.task)
    try:
        with owned_folder(folder):
            earlier = read_entry(folder)
            if earlier.state == "done":
                log.info("%s was done before", folder.name)
                return math.nan if earlier.objective is None else earlier.objective
            if not is_selected(folder.name):
                return math.nan
            try:
                result = _on_its_page(config, folder, words)
            except SystemExit as stop:
                if stop.code == TRY_AGAIN and (job := job_id()) is not None:
                    write_queued(folder, words, job)
                    resources.requeue(job)  # which ends this process, sooner or later
                raise
    except OwnedError:
        log.info("%s is being done by another process", folder.name)
        return math.nan
    except UserError as error:  # the folder cannot be made or its page not written: the runs after it may fare better
        print(error, file=sys.stderr)
        return math.nan
    log.info(progress(folder, result))
    return math.nan if result is None else result.objective


def _on_its_page(config: DictConfig, folder: Path, words: list[str]) -> "Result | None":
    """Do a run, from its checkpoint if there is one, and write in the ledger what becomes of it."""
    from seqlab.cli.arguments import source_words
    from seqlab.io.formatting import relative_path
    from seqlab.runs.run_folder import RESULTS, RESUME
    from seqlab.sweeps.ledger import run_status

    (folder / RESULTS).unlink(missing_ok=True)  # of a run that ended before its page said so
    if (folder / RESUME).exists():
        config.ckpt_path = "last"
    with run_status(folder, words) as record:
        result, failure = single(config, [*source_words(), *words], ["resume", relative_path(folder.parent)])
        if result is None:
            record.update(state="failed", cause=failure)
        else:
            record.update(state="done", objective=result.objective)
    return result


def single(
    config: DictConfig, arguments: list[str], again: list[str] | None = None, *, keep_empty: bool = False
) -> tuple["Result | None", str | None]:
    """Do one run; what goes wrong is told in one line, and nothing is touched in a folder that another process owns.

    Args:
        config: of the run.
        arguments: what was typed.
        again: what to type if it is stopped; else the same, with the folder.
        keep_empty: whether the folder of a run that is refused stays.

    Returns:
        What it found, or why it failed.
    """
    from seqlab.cli.errors import explain
    from seqlab.runs.ownership import OwnedError, logging_to, owned_folder

    folder = output_folder()
    try:
        with owned_folder(folder, keep_empty=keep_empty), logging_to(folder):
            return _owned_run(config, folder, arguments, again)
    except (OwnedError, UserError) as error:
        line = explain(error)
        print(line, file=sys.stderr)
        return None, line


def _owned_run(
    config: DictConfig, folder: Path, arguments: list[str], again: list[str] | None
) -> tuple["Result | None", str | None]:
    from seqlab.cli.errors import explain, is_user_error
    from seqlab.distributed.signals import StoppedError
    from seqlab.io.formatting import relative_path
    from seqlab.runs.commands import shell_command
    from seqlab.training.run import run

    try:
        result = run(config, folder, shell_command(*arguments))
    except (KeyboardInterrupt, SystemExit):
        _say_how_to_go_on("interrupted", again, arguments, folder)
        raise KeyboardInterrupt from None
    except StoppedError as stop:
        _say_how_to_go_on(str(stop), again, arguments, folder)
        if stop.by == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(TRY_AGAIN) from None
    except Exception as error:
        note = ""
        if not is_user_error(error):
            _keep_traceback(folder)
            note = f"{_whose(error, config)}its traceback is in {shlex.quote(relative_path(folder))}/error.txt"
        line = explain(error, note)
        print(line, file=sys.stderr)
        return None, line
    write_hydra(config, folder)
    return result, None


def _whose(error: Exception, config: DictConfig) -> str:
    """Say whose fault a crash may be, where no frame of its traceback is a third party's."""
    from seqlab.cli.errors import raised_by
    from seqlab.plugins.diagnostics import third_party_plugins

    if raised_by(error) is not None:
        return ""
    others = ", ".join(third_party_plugins(config))
    return f"a fault of the program{f', or of what is in use beside it: {others}' if others else ''}; "


def _show(result: "Result") -> None:
    from rich.console import Console

    from seqlab.io.formatting import relative_path
    from seqlab.runs.commands import shell_command, text_arguments
    from seqlab.runs.results import show_results

    console = Console(highlight=False)
    shown = relative_path(result.folder)
    show_results(result, console)
    console.print(f"run folder  {shlex.quote(shown)}", soft_wrap=True, markup=False)
    if example := result.record.get("example"):
        if result.record["generates"]:
            prompt = " ".join(example)
            words = ["generate", shown, *([f"--prompt={prompt}"] if prompt.startswith("-") else ["--prompt", prompt])]
        else:
            words = ["predict", shown, *text_arguments(example)]
        console.print(f"try it      {shell_command(*words)}", soft_wrap=True, markup=False)


def _say_how_to_go_on(what: str, again: list[str] | None, arguments: list[str], folder: Path) -> None:
    from seqlab.io.formatting import relative_path
    from seqlab.runs.commands import hydra_override, shell_command
    from seqlab.runs.run_folder import RESUME

    kept = [word for word in arguments if not word.startswith(("hydra.run.dir=", "ckpt_path="))]
    if again is not None or (folder / RESUME).exists():
        kept = again or [*kept, hydra_override("hydra.run.dir", relative_path(folder)), "ckpt_path=last"]
        what += "; to go on"
    else:
        what += " before there was anything to keep; to begin anew"
    print(f"{what}: {shell_command(*kept)}", file=sys.stderr)


def _keep_traceback(folder: Path) -> None:
    try:
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        traceback.print_exc()
