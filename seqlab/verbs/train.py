"""Training by Hydra: one run, or a sweep with ``-m``."""

import logging
import math
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from seqlab.training.results import Result

log = logging.getLogger("seqlab")

TRY_AGAIN = 75
"""Exit code of a run that was told to stop and can go on: ``EX_TEMPFAIL`` of sysexits.h."""


def train(arguments: list[str]) -> int:
    """Compose the config that the arguments describe, and run it.

    Returns:
        The exit code: 1 if the config cannot be composed or a run failed.
    """
    if "HYDRA_FULL_ERROR" not in os.environ:
        # Hydra then raises instead of printing its own advice, and the error is shown here, in one line.
        os.environ |= {"HYDRA_FULL_ERROR": "1", "SEQLAB_SET_FULL_ERROR": "1"}
    from seqlab.verbs.errors import reported

    return reported(lambda: _train(arguments))


def _train(arguments: list[str]) -> int:
    import hydra

    from seqlab.discovery.hydra_source import register
    from seqlab.verbs.arguments import check_flags, check_settings
    from seqlab.verbs.configdir import check_config

    register()
    check_flags(arguments)
    check_config(arguments)
    check_settings(arguments)
    if "--help" in arguments or "-h" in arguments:
        return _help([argument for argument in arguments if argument not in ("--help", "-h")])
    if any(flag in arguments for flag in ("-m", "--multirun")):
        return _sweep(arguments)
    from seqlab.verbs.multirun import refuse_search

    refuse_search(arguments)
    failures: list[str] = []

    def job(config: DictConfig) -> None:
        from seqlab.training.devices import is_follower
        from seqlab.training.ranks import follow, leading

        folder = output_folder()
        if is_follower():
            follow(folder)
            return
        with leading(folder):
            result, failure = single(config, arguments)
        if result is None:
            failures.append(str(failure))
            _leave_nothing(folder)
        else:
            _show(result)

    sys.argv = ["seqlab", *arguments]
    hydra.main(version_base="1.3", config_path="pkg://seqlab_conf", config_name="config")(job)()
    return 1 if failures else 0


def _sweep(arguments: list[str]) -> int:
    import hydra

    from seqlab.sweeps.start import register
    from seqlab.verbs.multirun import finish, is_sweep, prepare

    register()
    folder = None
    if is_sweep(arguments):
        arguments, folder = prepare(arguments)
    sys.argv = ["seqlab", *arguments]
    hydra.main(version_base="1.3", config_path="pkg://seqlab_conf", config_name="config")(one_of_many)()
    return 0 if folder is None else finish(folder)


def _help(arguments: list[str]) -> int:
    from seqlab.training.compose import compose
    from seqlab.verbs.help import choice_help

    choice_help(compose(arguments))
    return 0


def one_of_many(config: DictConfig) -> float:
    """Do a run of a sweep, unless it is done or another process does it; go on with one that was begun.

    Returns:
        The monitored test metric; NaN if the run failed, so that the runs after it are done.
    """
    from seqlab.training.devices import is_follower
    from seqlab.training.ranks import follow, leading

    folder = output_folder()
    if is_follower():
        follow(folder)
        return math.nan
    with leading(folder):
        return _one_of_many(config, folder)


def _one_of_many(config: DictConfig, folder: Path) -> float:
    from hydra.core.hydra_config import HydraConfig

    from seqlab.errors import UserError
    from seqlab.sweeps import slurm
    from seqlab.sweeps.ledger import entry_of, job_id, write_queued
    from seqlab.sweeps.selection import is_meant
    from seqlab.training.runfolder import OwnedError, owned
    from seqlab.verbs.multirun import progress

    words = list(HydraConfig.get().overrides.task)
    try:
        with owned(folder):
            earlier = entry_of(folder)
            if earlier.state == "done":
                log.info("%s was done before", folder.name)
                return math.nan if earlier.objective is None else earlier.objective
            if not is_meant(folder.name):
                return math.nan
            result = _on_its_page(config, folder, words)
    except OwnedError:
        log.info("%s is being done by another process", folder.name)
        return math.nan
    except UserError as error:  # the folder cannot be made or its page not written: the runs after it may fare better
        print(error, file=sys.stderr)
        return math.nan
    except SystemExit as stop:
        if stop.code == TRY_AGAIN and (job := job_id()) is not None:
            write_queued(folder, words, job)
            slurm.requeue(job)  # which ends this process, sooner or later
        raise
    log.info(progress(folder, result))
    return math.nan if result is None else result.metrics[result.monitor]


def _on_its_page(config: DictConfig, folder: Path, words: list[str]) -> "Result | None":
    """Do a run, from its checkpoint if there is one, and write in the ledger what becomes of it."""
    from seqlab.sweeps.ledger import page
    from seqlab.training.runfolder import RESULTS, RESUME, relative

    (folder / RESULTS).unlink(missing_ok=True)  # of a run that ended before its page said so
    if (folder / RESUME).exists():
        config.ckpt_path = "last"
    with page(folder, words) as record:
        result, failure = single(config, words, ["resume", relative(folder.parent)])
        if result is None:
            record.update(state="failed", cause=failure)
        else:
            record.update(state="done", objective=result.metrics[result.monitor])
    return result


def single(
    config: DictConfig, arguments: list[str], again: list[str] | None = None
) -> tuple["Result | None", str | None]:
    """Do one run; what goes wrong is told in one line.

    Args:
        config: of the run.
        arguments: what was typed.
        again: what to type if it is stopped; else the same, with the folder.

    Returns:
        What it found, or why it failed.
    """
    from seqlab.training.commands import command
    from seqlab.training.interrupt import StoppedError
    from seqlab.training.run import run
    from seqlab.training.runfolder import relative
    from seqlab.verbs.errors import explain, is_users

    folder = output_folder()
    try:
        result = run(config, folder, command(*arguments))
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
        if not is_users(error):
            _keep_traceback(folder)
            note = f"{_whose(error, config)}its traceback is in {shlex.quote(relative(folder))}/error.txt"
        line = explain(error, note)
        print(line, file=sys.stderr)
        return None, line
    write_hydra(config, folder)
    return result, None


def _whose(error: Exception, config: DictConfig) -> str:
    """Say whose fault a crash may be, where no frame of its traceback is a third party's."""
    from seqlab.discovery.attribution import in_use
    from seqlab.verbs.errors import raised_by

    if raised_by(error) is not None:
        return ""
    others = ", ".join(in_use(config))
    return f"a fault of the program{f', or of what is in use beside it: {others}' if others else ''}; "


def output_folder() -> Path:
    """Give the run folder that Hydra chose."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def _show(result: "Result") -> None:
    from rich.console import Console

    from seqlab.training.commands import command, texts
    from seqlab.training.results import show
    from seqlab.training.runfolder import relative

    console = Console(highlight=False)
    shown = relative(result.folder)
    show(result, console)
    console.print(f"run folder  {shlex.quote(shown)}", soft_wrap=True, markup=False)
    if example := result.record.get("example"):
        if result.record["generates"]:
            prompt = " ".join(example)
            words = ["generate", shown, *([f"--prompt={prompt}"] if prompt.startswith("-") else ["--prompt", prompt])]
        else:
            words = ["predict", shown, *texts(example)]
        console.print(f"try it      {command(*words)}", soft_wrap=True, markup=False)


def _say_how_to_go_on(what: str, again: list[str] | None, arguments: list[str], folder: Path) -> None:
    from seqlab.training.commands import command, setting
    from seqlab.training.runfolder import RESUME, relative

    kept = [word for word in arguments if not word.startswith(("hydra.run.dir=", "ckpt_path="))]
    if again is not None or (folder / RESUME).exists():
        kept = again or [*kept, setting("hydra.run.dir", relative(folder)), "ckpt_path=last"]
        what += "; to go on"
    else:
        what += " before there was anything to keep; to begin anew"
    print(f"{what}: {command(*kept)}", file=sys.stderr)


def _leave_nothing(folder: Path) -> None:
    """Remove the folder of a run that was refused before there was anything to keep."""
    from seqlab.training.runfolder import LOCK

    made = [folder / LOCK, folder / "seqlab.log"]
    if folder.is_dir() and set(folder.iterdir()) <= set(made):
        for file in made:
            file.unlink(missing_ok=True)
        folder.rmdir()


def _keep_traceback(folder: Path) -> None:
    try:
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        traceback.print_exc()


def write_hydra(config: DictConfig, folder: Path) -> None:
    """Write ``.hydra/``: the composed config, Hydra's own, and the overrides."""
    from hydra.core.hydra_config import HydraConfig

    from seqlab.training.runfolder import write_text

    hydra_config = HydraConfig.get()
    write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))
    write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(hydra_config.overrides.task))
    write_text(folder / ".hydra" / "hydra.yaml", OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_config})))
