"""One run inside Hydra's job: its folder, its errors, and its entry in the ledger of a sweep."""

import logging
import math
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seqlab.cli.errors import crashed_plugin, explain, is_user_error
from seqlab.errors import UserError
from seqlab.io.atomic import write_text
from seqlab.io.formatting import hydra_override, relative_path, shell_command
from seqlab.plugins.hydra_internals import to_yaml
from seqlab.runs.ownership import OwnedError, logging_to, owned_folder
from seqlab.runs.run_folder import RESULTS, RESUME

if TYPE_CHECKING:
    from seqlab.runs.results import Result

log = logging.getLogger("seqlab")

TRY_AGAIN = 75
"""Exit code of a run that was stopped by a signal and can be resumed: ``EX_TEMPFAIL`` of sysexits.h."""

T = TypeVar("T")


def output_folder() -> Path:
    """Return the run folder; close the log file that Hydra opened there, as another process may own the folder."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(folder):
            root.removeHandler(handler)
            handler.close()
    return folder


def on_main_rank(folder: Path, action: Callable[[], T], otherwise: T) -> T:
    """Run an action on rank 0; other processes of the run do their part and return ``otherwise``."""
    from seqlab.distributed.devices import is_srun_worker
    from seqlab.distributed.ranks import releasing_srun_workers
    from seqlab.training.worker import run_worker_rank

    if is_srun_worker():
        run_worker_rank(folder)
        return otherwise
    with releasing_srun_workers(folder):
        return action()


def run_job(
    config: DictConfig,
    arguments: list[str],
    resume: list[str] | None = None,
    *,
    keep_empty: bool = False,
    estimate: Mapping[str, Any] | None = None,
) -> tuple["Result | None", str | None]:
    """Train in the folder of Hydra's job; return the result, or the error, which is printed in one line."""
    folder = output_folder()
    try:
        with owned_folder(folder, keep_empty=keep_empty), logging_to(folder):
            return _train(config, folder, arguments, resume, estimate)
    except (OwnedError, UserError) as error:
        return None, _report(error)


def _train(
    config: DictConfig,
    folder: Path,
    arguments: list[str],
    resume: list[str] | None,
    estimate: Mapping[str, Any] | None,
) -> tuple["Result | None", str | None]:
    from seqlab.distributed.signals import StoppedError
    from seqlab.training.run import run

    try:
        result = run(config, folder, shell_command(*arguments), estimate=estimate)
    except (KeyboardInterrupt, SystemExit):
        _print_resume("interrupted", arguments, resume, folder)
        raise KeyboardInterrupt from None
    except StoppedError as stop:
        _print_resume(str(stop), arguments, resume, folder)
        if stop.by == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(TRY_AGAIN) from None
    except Exception as error:
        return None, _report(error, "" if is_user_error(error) else _crash_note(error, config, folder))
    _write_hydra(config, folder)
    return result, None


def _report(error: Exception, note: str = "") -> str:
    line = explain(error, note)
    print(line, file=sys.stderr)
    return line


def _crash_note(error: Exception, config: DictConfig, folder: Path) -> str:
    """Write the traceback; return where it is and, if no frame of it is a plugin's, which plugins are in use."""
    from seqlab.plugins.diagnostics import third_party_plugins

    try:
        (folder / "error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        traceback.print_exception(error)
    where = f"traceback in {shlex.quote(relative_path(folder))}/error.txt"
    if crashed_plugin(error) is not None:
        return where
    others = ", ".join(third_party_plugins(config))
    return f"a bug of seqlab{f' or of a plugin in use: {others}' if others else ''}; {where}"


def _print_resume(reason: str, arguments: list[str], resume: list[str] | None, folder: Path) -> None:
    """Print the command that continues a stopped run, or starts it again where there is no checkpoint."""
    command = [word for word in arguments if not word.startswith(("hydra.run.dir=", "ckpt_path="))]
    if resume is not None or (folder / RESUME).exists():
        command = resume or [*command, hydra_override("hydra.run.dir", relative_path(folder)), "ckpt_path=last"]
        reason += "; to resume"
    else:
        reason += " before the first checkpoint; to start again"
    print(f"{reason}: {shell_command(*command)}", file=sys.stderr)


def _write_hydra(config: DictConfig, folder: Path) -> None:
    """Write ``.hydra/``: the composed config, Hydra's own, and the overrides."""
    hydra_config = HydraConfig.get()
    write_text(folder / ".hydra" / "config.yaml", to_yaml(config))
    write_text(folder / ".hydra" / "overrides.yaml", to_yaml(hydra_config.overrides.task))
    write_text(folder / ".hydra" / "hydra.yaml", to_yaml(OmegaConf.create({"hydra": hydra_config})))


def run_sweep_job(config: DictConfig) -> float:
    """Do a run of a sweep, unless it is done or another process does it; resume a run that was stopped.

    Returns:
        The best validation value of the monitored metric, which does not depend on test scores; NaN if the run failed,
        so that the next runs are done.

    Raises:
        UserError: there is no value, and the sweeper optimises: it has a setting for the number of failed runs.
    """
    folder = output_folder()

    def run() -> float:
        from seqlab.sweeps.direction import missing_value_cause

        value = _objective(config, folder)
        if math.isnan(value) and (reason := missing_value_cause(folder, HydraConfig.get().sweeper)) is not None:
            raise UserError(reason)
        return value

    return on_main_rank(folder, run, math.nan)


def _objective(config: DictConfig, folder: Path) -> float:
    """Return the value of a run of a sweep, which is run unless it is done, not selected, or another process's."""
    from seqlab.cli.multirun import progress_line
    from seqlab.sweeps.ledger import read_entry
    from seqlab.sweeps.plan import is_selected

    try:
        with owned_folder(folder):
            earlier = read_entry(folder)
            if earlier.state == "done":
                log.info("%s was done before", folder.name)
                return math.nan if earlier.objective is None else earlier.objective
            if not is_selected(folder.name):
                return math.nan
            result = _recorded_run(config, folder)
    except OwnedError:
        log.info("%s is being done by another process", folder.name)
        return math.nan
    except UserError as error:  # of this folder; later runs may succeed
        print(error, file=sys.stderr)
        return math.nan
    log.info(progress_line(folder, result))
    return math.nan if result is None else result.objective


def _recorded_run(config: DictConfig, folder: Path) -> "Result | None":
    """Do a run, from its checkpoint if there is one; record its state in the ledger, and queue it again if stopped."""
    from seqlab.cli.arguments import source_arguments
    from seqlab.runs.scores import linear_score
    from seqlab.sweeps import launchers
    from seqlab.sweeps.ledger import job_id, run_status, write_queued

    overrides = list(HydraConfig.get().overrides.task)
    (folder / RESULTS).unlink(missing_ok=True)  # of a run that ended before it was recorded as done
    if (folder / RESUME).exists():
        config = deepcopy(config)
        config.ckpt_path = "last"
    try:
        with run_status(folder, overrides) as record:
            arguments = [*source_arguments(), *overrides]
            result, failure = run_job(config, arguments, ["resume", relative_path(folder.parent)])
            if result is None:
                record.update(state="failed", cause=failure)
            else:
                record.update(state="done", objective=result.objective, linear=linear_score(result.record, "valid"))
    except SystemExit as stop:
        if stop.code == TRY_AGAIN and (job := job_id()) is not None:
            write_queued(folder, overrides, job)
            launchers.requeue(job)  # which ends this process, sooner or later
        raise
    return result
