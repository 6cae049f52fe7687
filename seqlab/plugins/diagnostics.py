"""Diagnosis of errors: suggestions for unknown keys, OmegaConf errors in one line, attribution to a plugin."""

import difflib
import linecache
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from seqlab.errors import one_line
from seqlab.plugins.registry import KINDS, Plugin, plugins

_OTHER_NAMES = {
    "accelerator": ("gpu", "cuda"),
    "accumulate_grad_batches": ("accumulate", "grad_accum", "gradient_accumulation_steps"),
    "batch_size": ("bs", "batch", "batches", "batchsize", "train_batch_size"),
    "bidirectional": ("bi", "bidir", "birnn"),
    "ckpt_path": ("ckpt", "checkpoint", "resume", "resume_from"),
    "depth": ("layers", "num_layers", "n_layers", "nlayers"),
    "devices": ("device", "gpus", "num_gpus"),
    "dropout": ("drop", "p_drop", "dropout_rate"),
    "early_stopping": ("patience", "earlystopping"),
    "embedding_size": ("emb", "embed", "embedding", "embedding_dim", "emb_size", "embed_size"),
    "gradient_clip_val": ("clip", "clip_grad", "grad_clip", "gradient_clip", "max_norm", "clip_norm"),
    "hidden_size": ("hidden", "units", "n_hidden", "hidden_dim", "hidden_units", "nhid", "hiddensize"),
    "hydra.run.dir": ("out", "output", "out_dir", "output_dir", "run_dir", "save_dir", "dir", "folder"),
    "init_from": ("pretrained", "finetune", "init", "load"),
    "lr": ("learning_rate", "learningrate", "eta", "max_lr", "base_lr"),
    "max_epochs": ("epochs", "epoch", "num_epochs", "n_epochs", "max_epoch", "nepochs"),
    "max_steps": ("steps", "step", "num_steps", "n_steps", "iterations", "max_step"),
    "optimizer": ("optim", "optimiser", "opt"),
    "preprocessing": ("tokenizer", "tokeniser", "preprocess", "preprocessor"),
    "schedule": ("scheduler", "lr_schedule", "lr_scheduler", "sched"),
    "seed": ("seeds", "random_seed", "random_state", "manual_seed"),
    "sequence_length": ("seq_len", "seq_length", "seqlen", "max_len", "max_length", "length", "bptt"),
    "task": ("dataset", "tasks", "problem"),
    "threads": ("num_threads", "n_threads", "cpus", "n_jobs"),
    "weight_decay": ("wd", "decay", "l2"),
    "workers": ("num_workers", "n_workers"),
}
"""Names that other libraries give to our keys."""
_ALWAYS = ("hydra.run.dir",)


def keys_of(config: Mapping[Any, Any], prefix: str = "") -> list[str]:
    """List all keys of nested mappings, dotted."""
    found: list[str] = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += keys_of(value, f"{prefix}{key}.")
    return found


def suggestions(key: str, known: Iterable[str]) -> list[str]:
    """Find the keys that may have been meant, the likeliest first, three at most.

    Args:
        key: dotted, as it was typed.
        known: all keys there are, dotted.
    """
    keys = [*known, *_ALWAYS]
    parent, _, last = key.lower().replace("-", "_").rpartition(".")
    last_of = {each: each.rpartition(".")[2] for each in keys}
    siblings = {name: each for each, name in last_of.items() if each.rpartition(".")[0] == parent}
    if close := difflib.get_close_matches(last, siblings, n=1, cutoff=0.75):
        return [siblings[close[0]]]
    meant = {last, *(name for name, others in _OTHER_NAMES.items() if last in others)}
    if not parent.startswith("hydra") and (same := [each for each in keys if last_of[each] in meant or each in meant]):
        return sorted(same, key=lambda each: (each.rpartition(".")[0] != parent, len(each)))[:3]
    if close := difflib.get_close_matches(last, siblings, n=1, cutoff=0.65):
        return [siblings[close[0]]]
    if parent.startswith("hydra"):
        return []
    close = difflib.get_close_matches(last, set(last_of.values()), n=1, cutoff=0.75)
    return [each for each in keys if close and last_of[each] == close[0]][:3]


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Write the message for a key that does not exist.

    Args:
        key: dotted.
        known: all keys of the config, dotted.
    """
    keys = [each for each in known if each != key]
    parent = key.rpartition(".")[0]
    there = [each.rpartition(".")[2] for each in keys if each.rpartition(".")[0] == parent]
    line = f"{key}: there is no such key"
    if found := suggestions(key, keys):
        line += f"; did you mean {' or '.join(found)}?"
    if there:
        line += f"{' ' if found else '; '}{parent or 'the config'} has {', '.join(there)}"
    return line


_OWN = "seqlab"
_WORKER = re.compile(r'File "([^"\n]+)", line (\d+), in (\w+)')
"""A frame in the text of a traceback, which is all that a worker process of a ``DataLoader`` hands on."""


@final
@dataclass(frozen=True)
class _Frame:
    file: str
    line: int
    names: frozenset[str]


def raising_plugin(error: BaseException) -> str | None:
    """Name the plugin whose code raised an error, its distribution and version, and the file and line.

    That is the innermost frame of the traceback in a package that registers plugins and is not seqlab's: what a plugin
    calls in other libraries is its own doing. ``None`` where there is no such frame.
    """
    third = _third_parties()
    if not third:
        return None
    frames = [*_frames(error)]
    for index in range(len(frames) - 1, -1, -1):
        if owners := _owners(third, frames[index].file):
            names = [frame.names for frame in reversed(frames[: index + 1]) if _owners(third, frame.file)]
            return f"{_who(owners, names)} failed at {_place(owners[0], frames[index])}"
    return None


def is_crash(error: BaseException) -> bool:
    """Whether no ``raise`` statement raised an error, so that its message was not written for a user."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    return not linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip().startswith("raise")


def third_party_plugins(config: Mapping[str, Any]) -> list[str]:
    """Name the plugins of third parties that a config chooses."""
    chosen = {kind: config[kind]["name"] for kind in KINDS if config.get(kind)}
    names = [(kind, str(name)) for kind, name in chosen.items()]
    names += [("callback", str(node["name"])) for node in (config.get("callbacks") or {}).values()]
    names += [("pinned", name) for kind, name in names if kind == "cell"]
    names += [("kernel", f"{chosen.get('cell')}.{name}") for kind, name in names if kind == "kernel"]
    return [_shown(plugins(kind)[name]) for kind, name in names if _is_third(plugins(kind).get(name))]


def _is_third(plugin: Plugin | None) -> bool:
    return plugin is not None and plugin.distribution != _OWN


def _third_parties() -> list[Plugin]:
    return [plugin for kind in KINDS for plugin in plugins(kind).values() if plugin.distribution != _OWN]


def _frames(error: BaseException) -> Iterator[_Frame]:
    """Walk from the outermost frame to the innermost; in a worker's message, to that process's."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        names = {frame.f_code.co_qualname.partition(".")[0]}
        if "self" in frame.f_locals:
            names |= {each.__name__ for each in type(frame.f_locals["self"]).__mro__}
        yield _Frame(frame.f_code.co_filename, line, frozenset(names))
    for file, number, name in _WORKER.findall(str(error)):
        yield _Frame(file, int(number), frozenset({name}))


def _owners(third: list[Plugin], file: str) -> list[Plugin]:
    """Find the plugins whose module, or the package that it is in, holds a file: those of the closest folder."""
    found = [(len(str(root)), plugin) for plugin in third for root in _roots(plugin) if _holds(root, file)]
    closest = max((length for length, _ in found), default=0)
    return list(dict.fromkeys(plugin for length, plugin in found if length == closest))


def _holds(root: Path, file: str) -> bool:
    return Path(file) == root or root in Path(file).parents


def _roots(plugin: Plugin) -> Iterator[Path]:
    """List a plugin's module and the packages around it, as far as they were imported."""
    parts = plugin.target.partition(":")[0].split(".")
    for count in range(len(parts), 0, -1):
        file = getattr(sys.modules.get(".".join(parts[:count])), "__file__", None)  # a namespace package has none
        if file:
            yield Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _who(owners: list[Plugin], names: list[frozenset[str]]) -> str:
    """Name the one plugin among several of a module whose class or function is on the stack, or their distribution."""
    if len(owners) > 1:
        for each in names:
            if named := [plugin for plugin in owners if plugin.target.rpartition(":")[2] in each]:
                owners = named
                break
    kinds = list(dict.fromkeys(_choice(plugin) for plugin in owners))
    one = owners[0]
    return f"{' or '.join(kinds[:3]) if len(kinds) <= 3 else 'a plugin'} of {one.distribution} {one.version}"


def _choice(plugin: Plugin) -> str:
    """Write a plugin as it is chosen."""
    if plugin.kind == "step":
        return f"step {plugin.name}"
    if plugin.kind == "kernel":
        return f"kernel={plugin.name.rpartition('.')[2]}"
    group = {"pinned": "cell", "callback": "callbacks"}.get(plugin.kind, plugin.kind)
    return f"{group}={plugin.name}"


def _shown(plugin: Plugin) -> str:
    return f"{_choice(plugin)} of {plugin.distribution} {plugin.version}"


def _place(plugin: Plugin, frame: _Frame) -> str:
    """Write file and line, the file from the package on."""
    top = list(_roots(plugin))[-1]
    base = top if top.suffix != ".py" else top.parent
    path = Path(frame.file)
    shown = path.relative_to(base.parent if base is top else base) if base in path.parents else path
    return f"{shown}:{frame.line}"


_TYPES = {
    "int": "a whole number", "Integer": "a whole number", "float": "a number", "Float": "a number",
    "bool": "true or false", "Boolean": "true or false", "str": "a text", "String": "a text",
}  # fmt: skip
_CONVERTED = re.compile(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+).*", re.DOTALL)
_CONTAINER = re.compile(r"Cannot convert '\w+' to string: '(.*)'", re.DOTALL)
_WRITTEN = {"True": "true", "False": "false", "None": "null"}


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Write an error of OmegaConf as one line, without types of Python."""
    key, message = error.full_key or "", str(error).partition("\n")[0]
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and key:
        return _unknown_key(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{key or 'a key'} is ???, which stands for a missing value; set it"
    if isinstance(error, InterpolationResolutionError):
        reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", message)
        return f"{key}: the interpolation cannot be resolved: {reason}" if key else one_line(message)
    if isinstance(error, ValidationError):
        return _wrong_type(key, message)
    return f"{key}: {message[:1].lower()}{message[1:]}" if key else message


def _wrong_type(key: str, message: str) -> str:
    where = key or "a value"
    if (found := _CONVERTED.fullmatch(message)) and found[2] in _TYPES:
        return f"{where} must be {_TYPES[found[2]]}, got {_WRITTEN.get(found[1], found[1])}"
    if found := _CONTAINER.fullmatch(message):
        return f"{where} must be a text, got {found[1]}"
    if found := re.fullmatch(r"Cannot assign \w+ to (Dict|List)\[.*", message):
        return f"{where} must be a {'mapping of keys to values' if found[1] == 'Dict' else 'list'}"
    if found := re.fullmatch(r"Merge error: \w+ is not a subclass of .*\. value: (.*)", message, re.DOTALL):
        return f"{where} must be a mapping of keys to values, got {found[1]}"
    if "is not Optional" in message or "'None'" in message:
        return f"{where} must not be null"
    return f"{where}: {message[:1].lower()}{message[1:]}"


def _unknown_key(error: OmegaConfBaseException) -> str:
    key, parent = error.full_key or "", error.parent_node
    if parent is None or not hasattr(parent, "keys"):
        return one_line(str(error).partition("\n")[0])
    root = parent._get_root()
    known = keys_of(OmegaConf.to_container(root, resolve=False)) if OmegaConf.is_dict(root) else []  # type: ignore[arg-type]  # a mapping is one
    if not key.startswith("hydra."):
        known = [each for each in known if each.partition(".")[0] != "hydra"]
    prefix = key.rpartition(".")[0]
    return unknown_key(key, known or [f"{prefix}.{name}".lstrip(".") for name in parent])
