"""Command line of a training run, parsed by Hydra's own parsers, and checks of a user's config folder."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, final

from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from seqlab.cli.parser import Parser
from seqlab.config.compose import compose_full, configs
from seqlab.errors import UserError
from seqlab.io.formatting import shell_command
from seqlab.io.safe_io import check_links
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.hydra_internals import flag_parser
from seqlab.plugins.hydra_source import SOURCE, Sources, sources, using_sources
from seqlab.sweeps.overrides import check_file_overrides, launcher_fault, override_key, split_overrides

SEARCHPATH = "hydra.searchpath"
_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
_INTERPOLATION = "Hydra takes ${ in the name of a folder for an interpolation; choose a folder without"
_SCHEMES = ("pkg", "structured")


@final
@dataclass(frozen=True)
class CommandLine:
    """A parsed command line: Hydra's flags and overrides without those that choose the sources of configs.

    ``only_prints`` says that Hydra prints something instead of a run, ``asks_help`` that the config keys are explained.
    """

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    sources: Sources
    is_sweep: bool
    only_prints: bool
    asks_help: bool


def parse(arguments: Sequence[str]) -> CommandLine:
    """Parse a command line."""
    parser = flag_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # which prints the usage and exits
    args, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        _refuse(f"{' '.join(unknown)}: there is no such flag")
    if args.experimental_rerun is not None:
        raise UserError("--experimental-rerun unpickles a file, which can run code; use seqlab rerun RUN_DIR")
    if args.config_path is not None:
        raise UserError("--config-path would replace seqlab's own config; --config-dir adds a folder of yours to it")
    for flag in ("resolve", "package"):
        if getattr(args, flag) and args.cfg is None:
            raise UserError(f"--{flag} needs --cfg, such as --cfg job")
    if sum(map(bool, (args.run, args.multirun, args.cfg, args.info, args.shell_completion))) > 1:
        raise UserError("only one of --run, --multirun, --cfg, --info and --shell-completion can be given")
    if args.config_name is not None and not args.config_name.strip():
        raise UserError("--config-name is empty; it must name a config file")
    typed = [] if args.config_dir is None else [_folder(args.config_dir, "--config-dir")]
    overrides, searched = _split_searchpath(args.overrides)
    return CommandLine(
        flags=tuple(_flags(args)),
        overrides=tuple(overrides),
        sources=Sources(args.config_name or "config", (*typed, *searched)),
        is_sweep=bool(args.multirun),
        only_prints=bool(args.cfg or args.info or args.hydra_help or args.shell_completion),
        asks_help=bool(args.help),
    )


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; python -m seqlab --hydra-help lists the flags, options are key=value")


def _flags(args: argparse.Namespace) -> Iterable[str]:
    for name in ("hydra_help", "multirun", "run", "shell_completion", "resolve", "cfg", "package", "info"):
        if value := getattr(args, name):
            yield f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")


def _folder(name: str, key: str) -> str:
    """Return a config folder as a URL, which is absolute, for processes that run elsewhere."""
    scheme, separator, rest = name.partition("://")
    if separator and scheme in _SCHEMES:
        return name
    if separator and scheme != "file":
        raise UserError(f"{key}: {name} must begin with file://, {' or '.join(f'{s}://' for s in _SCHEMES)}")
    path = Path(rest if separator else name).expanduser().resolve()
    if not name.strip() or not path.is_dir():  # an empty name, as of an unset shell variable, is the working folder
        raise UserError(f"{key}={name}: there is no such folder")
    return f"file://{path}"


def _split_searchpath(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split overrides and config folders of ``hydra.searchpath``."""
    kept: list[str] = []
    found: list[str] = []
    for override in overrides:
        if override.partition("=")[0].lstrip("+") != SEARCHPATH:
            kept.append(override)
            continue
        try:
            value = OverridesParser.create().parse_overrides([override])[0].value()
        except (HydraException, ValueError):
            value = None
        if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
            raise UserError(f"{SEARCHPATH} must be a list of folders, such as [file://conf], got {override}")
        found += (_folder(each, SEARCHPATH) for each in value)
    return kept, found


def check_overrides(overrides: Sequence[str]) -> None:
    """Check overrides that Hydra obeys before a config is composed."""
    for word in overrides:
        key, equals, value = word.partition("=")
        if not word:
            raise UserError("an argument is empty; an option is key=value")
        if not key or word.startswith("-") or not (equals or word.startswith("~")):
            raise UserError(f"{word}: this is no option; an option is key=value")
        if key.lstrip("~+") in _FOLDERS:
            name = value.strip("'\"").strip()
            if name in ("", "null", "???"):
                raise UserError(f"{word}: {key.lstrip('~+')} must be the name of a folder")
            if r"\${" in value:
                raise UserError(f"{word}: {_INTERPOLATION}")
            check_links(Path(name))  # Hydra opens its log there before the run folder is checked
        if key.startswith("+"):
            _check_hydra_key(key.lstrip("+"))
        if key == "hydra.mode":
            raise UserError(f"{word}: use -m for a sweep, and nothing for a single run")


def refuse_sweep(overrides: Sequence[str]) -> None:
    """Raise :class:`UserError` for an override with several values, where there is one config."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_sweep_override():
            line, key = str(override.input_line), override.get_key_element()
            raise UserError(f"{line}: several values need a sweep: {shell_command('-m', line)}; a list is {key}=[a,b]")


def refuse_words(overrides: Sequence[str], reason: str) -> None:
    """Raise :class:`UserError` for an argument that is no override, such as a second folder."""
    for word in overrides:
        if "=" not in word and not word.startswith("~"):
            raise UserError(f"{word}: {reason}; further settings are key=value")


def _check_hydra_key(key: str) -> None:
    """Refuse a new key of Hydra's own node that Hydra does not read."""
    first, *rest = key.partition("@")[0].split(".")
    node: Any = OmegaConf.structured(HydraConf)
    for depth, part in enumerate(rest if first == "hydra" else []):
        if not OmegaConf.is_dict(node) or OmegaConf.get_type(node) is dict:
            return  # of a launcher, say, whose plugin checks its keys
        if part not in node.keys():  # noqa: SIM118  # a missing value is not in the node, and its key is
            prefix = ".".join([first, *rest[:depth]])
            raise UserError(unknown_key(f"{prefix}.{part}", [f"{prefix}.{name}" for name in node]))
        node = None if OmegaConf.is_missing(node, part) else node[part]


def check_working_folder() -> None:
    """Raise :class:`UserError` if Hydra would take a part of the working folder's name for an interpolation."""
    if "${" in str(Path.cwd()):
        raise UserError(f"the working folder is {Path.cwd()}: {_INTERPOLATION}")


def add_overrides(parser: Parser, meaning: str) -> None:
    """Add overrides and ``--config-dir`` to the parser of a command."""
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", default=[], help=meaning)
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="folder of your own config files")


def with_config_dir(args: argparse.Namespace) -> list[str]:
    """Return the overrides of such a command, with the config folder among them as ``hydra.searchpath``."""
    if args.config_dir is None:
        return list(args.overrides)
    overrides, searched = _split_searchpath(args.overrides)
    return [*Sources(folders=(_folder(args.config_dir, "--config-dir"), *searched)).arguments, *overrides]


def parse_overrides(args: argparse.Namespace) -> CommandLine:
    """Parse and check the overrides and ``--config-dir`` of such a command."""
    command = parse(with_config_dir(args))
    check_overrides(command.overrides)
    return command


def source_arguments() -> list[str]:
    """Return the arguments that choose the sources of the current run, in any process."""
    found = HydraConfig.get()
    folders = [f"{each.schema}://{each.path}" for each in found.runtime.config_sources if each.provider == SOURCE]
    return Sources(str(found.job.config_name), tuple(folders)).arguments


def folder_value(overrides: Sequence[str], key: str) -> Path | None:
    """Return the folder that overrides set, quoted as for Hydra or not; ``None`` unless one does."""
    values = [word.partition("=")[2] for word in overrides if word.partition("=")[0].lstrip("+~") == key]
    if not values:
        return None
    value = values[-1]
    with suppress(HydraException):
        parsed = OverridesParser.create().parse_override(f"{key}={value}").value() if value[:1] in ("'", '"') else value
        value = parsed.replace(r"\${", "${") if isinstance(parsed, str) else value
    return Path(value)


_OWN = ("hydra.", "hydra_plugins.", "logging.", "colorlog.")
_NAMES_CODE = ("_target_", "class", "()")
"""Keys by which Hydra and Python's logging name classes and functions to import."""
_FIXED = (
    "job_logging", "hydra_logging", "callbacks", "run", "sweep", "output_subdir", "job.env_set", "job.env_copy",
    "job.chdir",
)  # fmt: skip
"""Keys of Hydra that write files, or set the environment of the dynamic loader."""


def check_config_dir(overrides: Sequence[str]) -> None:
    """Check what config folders change of Hydra's own node, before Hydra reads it."""
    if sources() == Sources():
        return
    node = _composed(overrides)
    typed = [word for word in overrides if override_key(word).startswith(("hydra.", "hydra/"))]
    with using_sources(replace(sources(), name="config")):
        own = _composed(typed)
    keys = set(map(override_key, typed))
    _check_launcher(node, keys)
    _check_sweeper(node.get("sweeper") or {})
    for key in _FIXED:
        if (value := _at(node, key)) != _at(own, key):
            raise UserError(f"hydra.{key} is {str(value)[:80]}: a config folder cannot set this; type it yourself")
    _check_names(node, keys)
    _check_hidden(node["runtime"]["choices"])


def _composed(overrides: Sequence[str]) -> Mapping[str, Any]:
    node = OmegaConf.to_container(compose_full(overrides, RunMode.MULTIRUN).hydra, resolve=False)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def _at(node: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key."""
    group, _, last = key.rpartition(".")
    return ((node.get(group) or {}) if group else node).get(last)


def _check_launcher(node: Mapping[str, Any], typed: set[str]) -> None:
    """Allow a folder to set the resources of a launcher, but no shell command, environment or path."""
    chosen = node["runtime"]["choices"]["hydra/launcher"]
    try:
        with using_sources(Sources()):
            usual = _composed([f"hydra/launcher={chosen}"])["launcher"] or {}
    except HydraException:  # a launcher of the folder's own
        usual = {}
    known = dict(_flat(usual))
    for key, value in _flat(node.get("launcher") or {}):
        if value == known.get(key) or key in _NAMES_CODE or f"hydra.launcher.{key}" in typed:
            continue
        if fault := launcher_fault(key, value):
            raise UserError(f"hydra.launcher.{key} is {str(value)[:80]!a}, {fault}; type it yourself, if it is yours")


def _flat(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a launcher; those of ``ray.init`` and ``ray.remote`` are dotted."""
    for key, value in node.items():
        if key in ("ray", "ray.init", "ray.remote") and isinstance(value, Mapping):
            yield from _flat({f"{key}.{each}": deeper for each, deeper in value.items()})
        else:
            yield key, value


def _check_sweeper(node: Mapping[str, Any]) -> None:
    """Check the overrides that a folder adds to those of each run."""
    found = {"params": [f"{key}={value}" for key, value in (node.get("params") or {}).items()]}
    for group in ("rows", "tasks"):
        for label, given in (node.get(group) or {}).items():
            overrides = split_overrides(given) if isinstance(given, str) else [str(word) for word in given or ()]
            found[f"{group}.{label}"] = overrides
    for key, overrides in found.items():
        check_file_overrides(overrides, f"hydra.sweeper.{key}", "a config folder cannot set this; type it yourself")


def _check_names(node: Mapping[str, Any], typed: set[str]) -> None:
    """Refuse names of code other than that of Hydra's installed plugins and those that were typed."""
    named = [each for each in _names(node, "hydra") if not each[1].startswith(_OWN) and each[0] not in typed]
    usual = set(_names_of_plugins(node["runtime"]["choices"])) if named else set()
    for place, name in named:
        if (place, name) not in usual:
            raise UserError(f"{place}={name}: a config folder cannot name what Hydra imports; type it yourself")


def _names_of_plugins(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names in the configs of a launcher and a sweeper without the folder."""
    for kind in ("hydra/launcher", "hydra/sweeper"):
        overrides = [f"{key}={name}" for key, name in chosen.items() if f"{key}/".startswith(f"{kind}/") and name]
        with suppress(HydraException), using_sources(Sources()):  # one of the folder's own
            yield from _names(_composed(overrides), "hydra")


def _names(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each key that names code, and its value."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in _NAMES_CODE and isinstance(value, str):
                yield f"{place}.{key}", value
            yield from _names(value, f"{place}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _names(value, f"{place}[{number}]")


def _check_hidden(chosen: Mapping[str, Any]) -> None:
    """Refuse a file that Hydra would ignore, since a config of seqlab has the same name and comes first."""
    with configs():
        every = GlobalHydra.instance().config_loader().get_sources()
        for group, name in {"": sources().name, **chosen}.items():
            place = f"{group.partition('@')[0]}/{name}".lstrip("/")
            having = [each for each in every if isinstance(name, str) and each.is_config(place)]
            hidden = [each for each in having[1:] if each.provider == SOURCE]
            if hidden and having[0].provider != SOURCE:
                way_out = "choose it" if group else "choose it with --config-name"
                raise UserError(
                    f"{hidden[0].path}/{place}.yaml is not read, since seqlab has a config of this name: give the file "
                    f"another name and {way_out}"
                )
