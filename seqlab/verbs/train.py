"""Training by Hydra: one run, or a sweep with ``-m``."""

import logging
import math
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

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
    from seqlab.errors import UserError

    register()
    for argument in arguments:
        if argument.startswith("="):
            raise UserError(f"{argument}: there is no key before the equals sign; an option is key=value")
    if "--help" in arguments or "-h" in arguments:
        return _help([argument for argument in arguments if argument not in ("--help", "-h")])
    failures: list[str] = []

    def job(config: DictConfig) -> float:
        objective, failure = _job(config, arguments)
        if failure:
            failures.append(failure)
        return objective

    sys.argv = ["seqlab", *arguments]
    hydra.main(version_base="1.3", config_path="pkg://seqlab_conf", config_name="config")(job)()
    return 1 if failures else 0


def _help(arguments: list[str]) -> int:
    from seqlab.training.compose import compose
    from seqlab.verbs.help import choice_help

    config = compose(arguments)
    kinds = ("cell", "model", "task", "preprocessing", "kernel")
    choice_help({kind: config[kind].name for kind in kinds if config[kind] is not None})
    return 0


def _job(config: DictConfig, arguments: list[str]) -> tuple[float, str | None]:
    """Do one run; what goes wrong is told in one line and never stops the runs after it."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from seqlab.training.interrupt import StoppedError
    from seqlab.training.results import show
    from seqlab.training.run import run
    from seqlab.training.runfolder import relative
    from seqlab.verbs.errors import explain, is_users

    folder = Path(HydraConfig.get().runtime.output_dir)
    command = shlex.join(["python", "-m", "seqlab", *arguments])
    shown = shlex.quote(relative(folder))
    try:
        result = run(config, folder, command)
    except (KeyboardInterrupt, SystemExit):
        _say_how_to_go_on("interrupted", arguments, folder)
        raise KeyboardInterrupt from None
    except StoppedError as stop:
        _say_how_to_go_on(str(stop), arguments, folder)
        if stop.by == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(TRY_AGAIN) from None
    except Exception as error:
        line = explain(error)
        if not is_users(error):
            _keep_traceback(folder)
            line += f" (a fault of the program; its traceback is in {shown}/error.txt)"
        print(line, file=sys.stderr)
        return math.nan, line
    write_hydra(config, folder)
    console = Console(highlight=False)
    show(result, console)
    console.print(f"run folder  {shown}", soft_wrap=True)
    if example := result.record.get("example"):
        verb = f"generate {shown} --prompt" if result.record["generates"] else f"predict {shown}"
        console.print(f"try it      python -m seqlab {verb} {shlex.join(example)}", soft_wrap=True)
    return result.metrics[result.monitor], None


def _say_how_to_go_on(what: str, arguments: list[str], folder: Path) -> None:
    from seqlab.training.runfolder import RESUME, relative

    kept = [word for word in arguments if not word.startswith(("hydra.run.dir=", "ckpt_path="))]
    if (folder / RESUME).exists():
        kept += [f"hydra.run.dir={relative(folder)}", "ckpt_path=last"]
        what += "; to go on"
    else:
        what += " before there was anything to keep; to begin anew"
    print(f"{what}: python -m seqlab {shlex.join(kept)}", file=sys.stderr)


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
