"""The command line of a training run: flags of Hydra, told apart from overrides by Hydra's own parser."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, final

from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from seqlab.errors import UserError
from seqlab.io.safe_io import check_links
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.hydra_source import SOURCE, Sources

SEARCHPATH = "hydra.searchpath"
_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
_TAKEN = "Hydra takes ${ in the name of a folder for an interpolation; choose a folder without"
_SCHEMES = ("pkg", "structured")
_INFO = ("--info", "-i")


@final
@dataclass(frozen=True)
class Arguments:
    """A command line, parsed.

    Attributes:
        flags: of Hydra, without those that :attr:`sources` stands for.
        overrides: such as ``cell=gru``, without ``hydra.searchpath``.
        sources: the config folders and the primary config that were chosen.
        is_sweep: whether a sweep is to run.
        is_look: whether something is to be printed instead of a run.
        asks_help: whether it is the explanation of the keys.
    """

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    sources: Sources
    is_sweep: bool
    is_look: bool
    asks_help: bool


def parse(arguments: Sequence[str]) -> Arguments:
    """Parse a command line.

    Args:
        arguments: behind ``python -m seqlab``; flags may stand anywhere among overrides.

    Raises:
        UserError: a flag does not exist, lacks its value, or is one that is refused here.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # which prints the usage and exits
    asked = parser.parse_intermixed_args(_with_info(arguments))
    if asked.experimental_rerun is not None:
        raise UserError("--experimental-rerun unpickles a file, which can run code; seqlab rerun RUN_DIR repeats a run")
    if asked.config_path is not None:
        raise UserError("--config-path would leave seqlab's own config out; --config-dir adds a folder of yours to it")
    for flag in ("resolve", "package"):
        if getattr(asked, flag) and asked.cfg is None:
            raise UserError(f"--{flag} needs --cfg, such as --cfg job")
    commands = [asked.run, asked.multirun, asked.cfg, asked.info, asked.shell_completion]
    if sum(map(bool, commands)) > 1:
        raise UserError("only one of --run, --multirun, --cfg, --info and --shell-completion can be asked for")
    if asked.config_name is not None and not asked.config_name.strip():
        raise UserError("--config-name is empty, where a config file must be named")
    typed = [] if asked.config_dir is None else [_folder(asked.config_dir)]
    overrides, searched = _searched(asked.overrides)
    looks = asked.cfg or asked.info or asked.hydra_help or asked.shell_completion
    return Arguments(
        tuple(_flags(asked)),
        tuple(overrides),
        Sources(asked.config_name or "config", (*typed, *searched)),
        bool(asked.multirun),
        bool(looks),
        bool(asked.help),
    )


def _with_info(arguments: Sequence[str]) -> list[str]:
    """Write ``--info`` before an override as ``--info=all``: its value may be left out."""
    kept: list[str] = []
    for place, argument in enumerate(arguments):
        follows = arguments[place + 1 : place + 2]
        kept.append("--info=all" if argument in _INFO and (not follows or "=" in follows[0]) else argument)
    return kept


def _refuse(message: str) -> NoReturn:
    if (unknown := message.partition("unrecognized arguments: ")[2]) != "":
        message = f"{unknown}: there is no such flag"
    raise UserError(f"{message}; python -m seqlab --hydra-help lists the flags, options are key=value")


def _flags(asked: argparse.Namespace) -> Iterable[str]:
    for name in ("hydra_help", "multirun", "run", "shell_completion", "resolve"):
        if getattr(asked, name):
            yield f"--{name.replace('_', '-')}"
    for name in ("cfg", "package", "info"):
        if getattr(asked, name) is not None:
            yield f"--{name}={getattr(asked, name)}"


def _folder(name: str) -> str:
    if not name.strip():  # as of a shell variable that is not set; it would mean the working folder
        raise UserError("--config-dir is empty, where a folder must be named")
    path = Path(name).expanduser().resolve()
    if not path.is_dir():
        raise UserError(f"--config-dir={name}: there is no such folder")
    return f"file://{path}"


def _searched(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part ``hydra.searchpath`` from other overrides; folders become absolute, for processes that run elsewhere."""
    kept: list[str] = []
    found: list[str] = []
    for override in overrides:
        if override.partition("=")[0].lstrip("+") != SEARCHPATH:
            kept.append(override)
            continue
        try:
            value = OverridesParser.create().parse_overrides([override])[0].value()
        except (HydraException, ValueError) as error:
            raise UserError(f"{SEARCHPATH} must be a list of folders, such as [file://conf]") from error
        if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
            raise UserError(f"{SEARCHPATH} must be a list of folders, such as [file://conf], got {override}")
        found += map(_absolute, value)
    return kept, found


def _absolute(place: str) -> str:
    scheme, separator, rest = place.partition("://")
    if separator and scheme in _SCHEMES:
        return place
    if separator and scheme != "file":
        raise UserError(f"{SEARCHPATH}: {place} must begin with file://, {' or '.join(f'{s}://' for s in _SCHEMES)}")
    path = Path(rest if separator else place).expanduser().resolve()
    if not path.is_dir():
        raise UserError(f"{SEARCHPATH}: {place} is no folder")
    return f"file://{path}"


def check_overrides(words: Sequence[str]) -> None:
    """Check overrides that Hydra obeys before a config is composed.

    Raises:
        UserError: one is no override, or names no folder for the run's files.
    """
    for word in words:
        if not word:
            raise UserError("an argument is empty; an option is key=value")
        if word.startswith("="):
            raise UserError(f"{word}: there is no key before the equals sign; an option is key=value")
        if word.startswith("-"):
            raise UserError(f"{word}: this is no option; an option is key=value")
        key, _, value = word.partition("=")
        if key.lstrip("~+") in _FOLDERS:
            name = value.strip("'\"").strip()
            if name in ("", "null", "???"):
                raise UserError(f"{word}: {key.lstrip('~+')} must be the name of a folder")
            if r"\${" in value:
                raise UserError(f"{word}: {_TAKEN}")
            check_links(Path(name))  # Hydra opens the log there before the run folder is looked at
        if key.startswith("+"):
            _check_hydra_key(key.lstrip("+"))
        if key == "hydra.mode":
            raise UserError(f"{word}: -m makes a sweep, and its absence a single run")


def _check_hydra_key(key: str) -> None:
    """Refuse to add a key to Hydra's own node that Hydra does not read."""
    first, *rest = key.partition("@")[0].split(".")
    node: Any = OmegaConf.structured(HydraConf)
    for depth, part in enumerate(rest if first == "hydra" else []):
        if not OmegaConf.is_dict(node) or OmegaConf.get_type(node) is dict:
            return  # a launcher, say, whose keys its plugin knows
        if part not in node.keys():  # noqa: SIM118  # a missing value is not in the node, and its key is
            prefix = ".".join([first, *rest[:depth]])
            raise UserError(unknown_key(f"{prefix}.{part}", [f"{prefix}.{name}" for name in node]))
        node = None if OmegaConf.is_missing(node, part) else node[part]


def check_working_folder() -> None:
    """Check that Hydra can name the working folder.

    Raises:
        UserError: it would take a part of the name for an interpolation.
    """
    if "${" in str(Path.cwd()):
        raise UserError(f"the working folder is {Path.cwd()}: {_TAKEN}")


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-dir`` to the parser of a command that takes overrides."""
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder of your own config files")


def with_config_dir(asked: argparse.Namespace) -> list[str]:
    """Give the overrides of such a command, with the config folder among them as ``hydra.searchpath``.

    Raises:
        UserError: there is no such folder.
    """
    if asked.config_dir is None:
        return list(asked.overrides)
    overrides, searched = _searched(asked.overrides)
    return [*Sources(folders=(_folder(asked.config_dir), *searched)).arguments, *overrides]


def source_words() -> list[str]:
    """Return the arguments that choose the sources of the run at hand, in whatever process it runs."""
    found = HydraConfig.get()
    folders = [f"{each.schema}://{each.path}" for each in found.runtime.config_sources if each.provider == SOURCE]
    return Sources(str(found.job.config_name), tuple(folders)).arguments
