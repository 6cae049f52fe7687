"""Diagnosis of errors: suggestions for unknown keys, the plugin that raised an error, OmegaConf errors in one line."""

import difflib
import linecache
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final, get_args

from omegaconf import BooleanNode, DictConfig, FloatNode, IntegerNode, ListConfig, OmegaConf, StringNode
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
from seqlab.plugins.signature import describe, format_value

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
"""Names in other libraries, by key."""


def keys_of(config: Mapping[Any, Any], prefix: str = "") -> list[str]:
    """Return all keys of nested mappings, dotted."""
    found: list[str] = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += keys_of(value, f"{prefix}{key}.")
    return found


def suggestions(key: str, known: Iterable[str]) -> list[str]:
    """Return at most three keys that a mistyped one may stand for, the likeliest first."""
    keys = [*known, "hydra.run.dir"]
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
    """Return the message for a key that does not exist."""
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
"""A frame in the text of a traceback, which is all that a worker process of a ``DataLoader`` passes on."""


@final
@dataclass(frozen=True)
class _Frame:
    file: str
    line: int
    names: frozenset[str]


def raising_plugin(error: BaseException) -> str | None:
    """Return the third-party plugin whose code raised an error, with its distribution, version, file and line.

    It is found by the innermost frame of the traceback in a package that registers plugins and is not seqlab's: an
    error in a library that a plugin calls is the plugin's. ``None`` where there is no such frame.
    """
    third = [plugin for kind in KINDS for plugin in plugins(kind).values() if plugin.distribution != _OWN]
    if not third:
        return None
    frames = [*_frames(error)]
    for index in range(len(frames) - 1, -1, -1):
        if owners := _owners(third, frames[index].file):
            names = [frame.names for frame in reversed(frames[: index + 1]) if _owners(third, frame.file)]
            return f"{_choices(owners, names)} failed at {_location(owners[0], frames[index])}"
    return None


def is_crash(error: BaseException) -> bool:
    """Return whether no ``raise`` statement raised an error, so that its message was not written for a user."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    return not linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip().startswith("raise")


def third_party_plugins(config: Mapping[str, Any]) -> list[str]:
    """Return the third-party plugins that a config chooses, with their distributions and versions."""
    chosen = {kind: str(config[kind]["name"]) for kind in KINDS if config.get(kind)}
    names = [*chosen.items()]
    names += [("callback", str(node["name"])) for node in (config.get("callbacks") or {}).values()]
    names += [("pinned", name) for kind, name in names if kind == "cell"]
    names += [("kernel", f"{chosen.get('cell')}.{name}") for kind, name in names if kind == "kernel"]
    found = [plugin for kind, name in names if (plugin := plugins(kind).get(name)) and plugin.distribution != _OWN]
    return [f"{_choice(plugin)} of {plugin.distribution} {plugin.version}" for plugin in found]


def _frames(error: BaseException) -> Iterator[_Frame]:
    """List the frames from the outermost to the innermost, also those in the message of a worker process."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        names = {frame.f_code.co_qualname.partition(".")[0]}
        if "self" in frame.f_locals:
            names |= {each.__name__ for each in type(frame.f_locals["self"]).__mro__}
        yield _Frame(frame.f_code.co_filename, line, frozenset(names))
    for file, number, name in _WORKER.findall(str(error)):
        yield _Frame(file, int(number), frozenset({name}))


def _owners(third: list[Plugin], file: str) -> list[Plugin]:
    """Return the plugins whose module, or the package around it, holds a file: those of the closest folder."""
    path = Path(file)
    found = [
        (len(str(root)), plugin) for plugin in third for root in _roots(plugin) if root == path or root in path.parents
    ]
    closest = max((length for length, _ in found), default=0)
    return list(dict.fromkeys(plugin for length, plugin in found if length == closest))


def _roots(plugin: Plugin) -> Iterator[Path]:
    """List a plugin's module and the packages around it, as far as they were imported."""
    parts = plugin.target.partition(":")[0].split(".")
    for count in range(len(parts), 0, -1):
        file = getattr(sys.modules.get(".".join(parts[:count])), "__file__", None)  # a namespace package has none
        if file:
            yield Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _choices(owners: list[Plugin], names: list[frozenset[str]]) -> str:
    """Name the plugin of a module whose class or function is on the stack, or all of the module's plugins."""
    if len(owners) > 1:
        by_frame = ([plugin for plugin in owners if plugin.target.rpartition(":")[2] in each] for each in names)
        owners = next(filter(None, by_frame), owners)
    kinds = list(dict.fromkeys(_choice(plugin) for plugin in owners))
    one = owners[0]
    return f"{' or '.join(kinds[:3]) if len(kinds) <= 3 else 'a plugin'} of {one.distribution} {one.version}"


def _choice(plugin: Plugin) -> str:
    """Return a plugin as it is chosen."""
    if plugin.kind == "step":
        return f"step {plugin.name}"
    if plugin.kind == "kernel":
        return f"kernel={plugin.name.rpartition('.')[2]}"
    group = {"pinned": "cell", "callback": "callbacks"}.get(plugin.kind, plugin.kind)
    return f"{group}={plugin.name}"


def _location(plugin: Plugin, frame: _Frame) -> str:
    """Return file and line, the file from its package on."""
    top = list(_roots(plugin))[-1]
    base = top if top.suffix != ".py" else top.parent
    path = Path(frame.file)
    shown = path.relative_to(base.parent if base is top else base) if base in path.parents else path
    return f"{shown}:{frame.line}"


_NODES: dict[type[Any], str] = {
    IntegerNode: "an integer", FloatNode: "a number", BooleanNode: "true or false", StringNode: "a string",
    ListConfig: "a list", DictConfig: "a mapping of keys to values",
}  # fmt: skip


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Return an error of OmegaConf as one line, without types of Python."""
    key, message = error.full_key or "", str(error).partition("\n")[0]
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and key:
        return _unknown_key(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{key or 'a key'} is ???, which stands for a missing value; set it"
    if isinstance(error, InterpolationResolutionError):
        reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", message)
        return f"{key}: the interpolation cannot be resolved: {reason}" if key else one_line(message)
    if isinstance(error, ValidationError) and not key:  # a mapping was expected; OmegaConf says it in the text alone
        return f"a value must be {_NODES[DictConfig]}, got {message.rpartition('value: ')[2]}"
    if isinstance(error, ValidationError):
        if error.value is None:
            return f"{key} must not be null"
        expected = _NODES.get(type(error.child_node))
        if isinstance(error.parent_node, ListConfig):
            expected = describe(get_args(error.ref_type)[0])
        if expected:
            return f"{key} must be {expected}, got {format_value(error.value)}"
    return f"{key}: {message[:1].lower()}{message[1:]}" if key else message


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
