"""A sweep's folder and plan, before its first run."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from hydra.core.override_parser.types import Override, RangeSweep
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqlab.discovery.hydra_source import Sources, run_label, sources
from seqlab.errors import UserError
from seqlab.sweeps.key import run_key, sweep_key
from seqlab.sweeps.ledger import MOST_RUNS, SWEEP, read_plan, write_plan
from seqlab.training.compose import compose_all, compose_full
from seqlab.training.ownership import LOCK, OwnedError, owned
from seqlab.training.runfolder import relative

_SWEEPS = Path("runs") / "sweeps"


def expand(words: Sequence[str]) -> list[list[str]]:
    """Multiply a sweep out: the words of each run, as Hydra's basic sweeper orders them.

    Raises:
        hydra.errors.HydraException: a word is not understood.
        UserError: there are more of them than anyone could do.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(words))
    _check_count(parsed)
    (runs,) = BasicSweeper.split_arguments(parsed, None)
    return runs


def first_of_each(words: Sequence[str]) -> list[str]:
    """Take the first value of each key that a sweep varies; what only the sweeper can draw is left out."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    kept: list[str] = []
    for each in OverridesParser.create().parse_overrides(list(words)):
        if not each.is_sweep_override():
            kept.append(each.input_line or "")
        elif each.is_choice_sweep() or each.is_range_sweep():
            kept.append(f"{each.key_or_group}={next(iter(each.sweep_string_iterator()))}")
    return kept


def _check_count(words: Sequence[Override]) -> None:
    """Count the runs of a sweep before they are multiplied out: a range is as long as a few digits say."""
    count = 1.0
    for word in words:
        value = word.value()
        if isinstance(value, RangeSweep):
            assert value.start is not None
            assert value.stop is not None
            steps = (value.stop - value.start) / value.step if value.step else math.inf
            count *= max(steps, 1)
        elif word.is_choice_sweep():
            count *= sum(1 for _ in word.sweep_string_iterator())
        if count > MOST_RUNS:
            raise UserError(f"{str(word.input_line)[:80]}: this sweep asks for more than {MOST_RUNS:,} runs")


def run_name(config: DictConfig) -> str:
    """Name a run's folder: for people what cell or model it is, and the key of its config."""
    return f"{run_label(config.model.name, config.cell.name)}_{run_key(config)}"


def _run_name(_root_: DictConfig) -> str:
    return run_name(_root_)


def register() -> None:
    """Tell OmegaConf how a run's folder is called, for ``hydra.sweep.subdir``; idempotent."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)


def folder_of(words: Sequence[str]) -> Path:
    """Choose the folder of a sweep, the same one for the same words."""
    return _SWEEPS / sweep_key([*sources().words, *words])


def choices_of(words: Sequence[str]) -> tuple[str, str]:
    """Name the sweeper and the launcher that words choose, by themselves, by an experiment or by an own config.

    Returns:
        Both are ``basic`` unless they are chosen.

    Raises:
        hydra.errors.HydraException: the words cannot be composed.
    """
    keys = {word.lstrip("+").partition("=")[0] for word in words}
    if not keys & {"hydra/sweeper", "hydra/launcher", "experiment"} and sources() == Sources():
        return "basic", "basic"
    choices = compose_full(words, RunMode.MULTIRUN).hydra.runtime.choices
    return str(choices["hydra/sweeper"]), str(choices["hydra/launcher"])


def plan(folder: Path, words: Sequence[str], sweeper: str = "basic") -> None:
    """Write down the runs that a sweep asks for; where a sweeper decides as it goes, those decided before are kept.

    Raises:
        hydra.errors.HydraException, UserError: a run cannot be composed.
    """
    runs: dict[str, list[str]] = {}
    if sweeper == "basic":
        expanded = expand(words)
        for each, config in zip(expanded, compose_all(expanded), strict=True):
            runs.setdefault(run_name(config), each)
    elif (folder / SWEEP).is_file():
        runs = {run["name"]: run["words"] for run in read_plan(folder)["runs"]}
    write_plan(folder, [*sources().words, *words], runs, open=sweeper != "basic")


def set_aside(folder: Path) -> Path | None:
    """Give an earlier sweep's folder another name, so that its place is free; ``None`` if there is none.

    Raises:
        UserError: another process is doing a run of it.
    """
    if not (folder / SWEEP).exists():
        return None
    number = next(n for n in range(1, 10**6) if not folder.with_name(f"{folder.name}.{n}").exists())
    aside = folder.with_name(f"{folder.name}.{number}")
    with ExitStack() as own:  # nobody begins a run of it meanwhile
        for run in sorted(path.parent for path in folder.glob(f"*/{LOCK}")):
            try:
                own.enter_context(owned(run))
            except OwnedError as error:
                raise UserError(
                    f"fresh=true: another process is doing {relative(run)}; wait for its end, or set hydra.sweep.dir"
                ) from error
        return folder.rename(aside)
