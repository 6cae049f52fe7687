"""Training by Hydra: a single run, a sweep with ``-m``, or what Hydra prints instead."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    from seqlab.runs.results import Result


def train(arguments: list[str]) -> int:
    """Compose the config of a command line and run it."""
    if os.environ.get("HYDRA_FULL_ERROR") != "1":
        # Hydra then raises errors instead of printing them with advice of its own; report_errors() prints them.
        os.environ |= {"HYDRA_FULL_ERROR": "1", "SEQLAB_SET_FULL_ERROR": "1"}
    from seqlab.cli.errors import report_errors

    return report_errors(lambda: _train(arguments))


def _train(arguments: list[str]) -> int:
    from seqlab.cli.arguments import check_config_dir, check_overrides, check_working_folder, parse, refuse_sweep
    from seqlab.cli.folds import requested_folds
    from seqlab.cli.replicas import replica_overrides
    from seqlab.plugins.hydra_source import register, using_sources

    register()
    command = parse(arguments)
    overrides = list(command.overrides)
    with using_sources(command.sources):
        check_overrides(overrides)
        if not command.is_sweep:
            refuse_sweep(overrides)
        check_config_dir(overrides)
        if command.asks_help:
            return _help(overrides)
        if command.only_prints:
            _hydra_main(lambda _: None, command.flags, overrides)  # Hydra prints something and runs nothing
            return 0
        check_working_folder()
        if command.is_sweep:
            return _sweep(overrides)[1]
        count = requested_folds(overrides)
        if count is None and (sweep := replica_overrides(overrides)) is not None:
            return _sweep(sweep)[1]
        return _single_run(arguments, overrides) if count is None else _folds(arguments, overrides, count)


def _help(overrides: list[str]) -> int:
    from seqlab.cli.help import explain_keys
    from seqlab.config.compose import compose

    explain_keys(compose(overrides))
    return 0


def _hydra_main(job: Callable[[DictConfig], Any], flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Call Hydra with flags and overrides, for the current config sources."""
    import hydra

    from seqlab.plugins.hydra_internals import VERSION_BASE
    from seqlab.plugins.hydra_source import sources

    sys.argv = ["seqlab", *flags, *overrides]
    hydra.main(config_path="pkg://seqlab_conf", config_name=sources().name, **VERSION_BASE)(job)()


def _folds(arguments: list[str], overrides: list[str], count: int) -> int:
    """Run a sweep over the folds, print mean and interval, and train on all rows if asked to."""
    from seqlab.cli import folds
    from seqlab.cli.output import Output
    from seqlab.config.compose import check_run

    check_run([*folds.fold_overrides(overrides, 1), "hydra.run.dir=runs/unused"])
    sweep, code = _sweep(folds.fold_overrides(overrides, count))
    if code:
        return code
    records = folds.read_folds(sweep)
    found = folds.estimate(records, sweep)
    folds.write_estimate(sweep, found)
    folds.show_estimate(found, Output(), f"test scores over {count} folds")
    if not folds.is_refit(overrides):
        return 0
    return _single_run(arguments, folds.refit_overrides(overrides, sweep, records), found)


def _single_run(arguments: list[str], overrides: list[str], estimate: Mapping[str, Any] | None = None) -> int:
    from seqlab.cli.arguments import folder_value
    from seqlab.cli.job import on_main_rank, output_folder, run_job
    from seqlab.cli.multirun import check_keys, refuse_search
    from seqlab.config.compose import check_run

    node = check_run(overrides).hydra  # before Hydra makes a folder
    if any(word.startswith(("+hydra.", "++hydra.")) for word in overrides):
        check_keys(node)
    refuse_search(overrides, str(node.runtime.choices["hydra/sweeper"]))
    folder = folder_value(overrides, "hydra.run.dir")
    keep_empty = folder is not None and folder.is_dir()
    results: list[Result | None] = []

    def job(config: DictConfig) -> None:
        def run() -> None:
            results.append(run_job(config, arguments, keep_empty=keep_empty, estimate=estimate)[0])

        on_main_rank(output_folder(), run, None)

    _hydra_main(job, ["--run"], overrides)
    for result in results:
        if result is not None:
            _show(result, arguments)
    return int(any(result is None for result in results))


def _sweep(overrides: list[str]) -> tuple[Path, int]:
    """Run a sweep; return its folder and the exit code."""
    from seqlab.cli.job import run_sweep_job
    from seqlab.cli.multirun import finish, prepare
    from seqlab.sweeps.plan import register_run_name

    register_run_name()
    overrides, folder = prepare(overrides)
    _hydra_main(run_sweep_job, ["--multirun"], overrides)
    return folder, finish(folder)


def _show(result: "Result", arguments: list[str]) -> None:
    import shlex

    from seqlab.cli.folds import show_estimate
    from seqlab.cli.output import Output, show_linear_verdict, show_results
    from seqlab.io.formatting import relative_path, shell_command, text_arguments
    from seqlab.study.advice import advise

    out = Output()
    folder = relative_path(result.folder)
    show_results(result, out)
    estimate = result.record.get("estimate")
    if estimate:
        show_estimate(estimate, out, f"estimate for this model, by {estimate['folds']} folds")
    out.print_line(f"run folder  {shlex.quote(folder)}")
    if example := result.record.get("example"):
        if result.record["generates"]:
            prompt = " ".join(example)
            command = [
                "generate",
                folder,
                *([f"--prompt={prompt}"] if prompt.startswith("-") else ["--prompt", prompt]),
            ]
        else:
            command = ["predict", folder, *text_arguments(example)]
        out.print_line(f"try it      {shell_command(*command)}")
    if not estimate and (advice := advise(result.record, arguments)):
        out.print_line("no better than the input-independent baseline; what may help:")
        for text, retry in advice:
            out.print_line(f"  {text}\n    {retry}")
    show_linear_verdict(result, out)
