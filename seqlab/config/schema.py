"""Types and ranges of the config's keys outside plugins."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Literal, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqlab.errors import UserError
from seqlab.plugins.config import check_node, expand_pinned
from seqlab.plugins.diagnostics import explain_omegaconf, keys_of, unknown_key
from seqlab.plugins.signature import Ge, Gt, Le, Lt, Meaning, NotEmpty, check_value

_MOST_PROCESSES = 1024
_Count = Annotated[int, Ge(1)]
_CountOrZero = Annotated[int, Ge(0)]
_Processes = Annotated[int, Ge(1), Le(_MOST_PROCESSES)]
_Batches = (
    Annotated[float, Gt(0), Le(1), Meaning("a share of the batches")] | Annotated[int, Ge(1), Meaning("their number")]
)
_NotNegative = Annotated[float, Ge(0)]
_Text = Annotated[str, NotEmpty()]
_Decay = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Trainer:
    """Keys of ``trainer``; the defaults serve configs of earlier releases, which lack the key."""

    max_epochs: _Count | Literal["auto"] | Annotated[None, Meaning("max_steps or max_minutes ends the run")]
    max_steps: _Count | Annotated[Literal[-1], Meaning("no limit")] = -1
    max_minutes: Annotated[float, Gt(0)] | Annotated[None, Meaning("no limit")] = None
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: _Processes | Literal["auto"] = 1
    num_nodes: _Count = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    gradient_clip_val: Annotated[float, Gt(0)] | Annotated[None, Meaning("no clipping")] = 1.0
    skip_nonfinite: _CountOrZero = 0
    accumulate_grad_batches: _Count = 1
    checkpoint_minutes: _NotNegative = 5
    early_stopping: _Count | Annotated[None, Meaning("never")] = 8
    stop_when_solved: _CountOrZero = 0
    progress: bool | Literal["auto"] = "auto"
    threads: _Processes | Literal["auto"] | Annotated[None, Meaning("chosen by seqlab")] = None
    limit_train_batches: _Batches = 1.0
    limit_val_batches: _Batches = 1.0
    limit_test_batches: _Batches = 1.0
    overfit_batches: _CountOrZero = 0
    profiler: Literal["simple", "advanced"] | None = None
    replicas: Annotated[int, Ge(1), Le(_MOST_PROCESSES)] = 1


@dataclass(frozen=True)
class Data:
    """Keys of ``data``."""

    batch_size: _Count | Literal["auto"] = 256
    tokens_per_batch: _Count | Annotated[None, Meaning("no limit")] = None
    eval_batch_size: _Count = 1024
    bucket: _Count = 100
    workers: Annotated[int, Ge(0), Le(_MOST_PROCESSES)] = 0
    duplicates: Literal["keep", "drop"] = "keep"
    allow_change: bool = False


@dataclass(frozen=True)
class Run:
    """Keys outside groups."""

    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    ckpt_path: Annotated[_Text, Meaning("last, best or a file")] | None = None
    init_from: Annotated[_Text, Meaning("the folder of a run")] | None = None
    freeze: Annotated[list[str], Meaning("parts of the model")] = field(default_factory=list)


@dataclass(frozen=True)
class Optimizer:
    """Keys of ``optimizer`` that every optimiser has; those with a default may be left out."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"]
    lr: _NotNegative
    recurrent_lr: _NotNegative | Annotated[None, Meaning("lr for all parameters")] = None
    weight_decay: _NotNegative = 0.0
    schedule: Literal["constant", "cosine", "one_cycle", "decay", "plateau"] = "constant"
    warmup: _Decay = 0.0
    decay: Annotated[float, Gt(0), Le(1)] = 1.0
    decay_after: _CountOrZero = 0
    patience: _CountOrZero = 0
    averaging: _Count | None = None
    foreach: bool | None = None


_BETAS = tuple[_Decay, _Decay]
_EPS = Annotated[float, Gt(0)]
_OF_OPTIMIZER: dict[str, dict[str, Any]] = {
    "adamw": {"betas": _BETAS, "eps": _EPS, "amsgrad": bool},
    "adam": {"betas": _BETAS, "eps": _EPS, "amsgrad": bool},
    "sgd": {"momentum": _NotNegative, "dampening": _NotNegative, "nesterov": bool},
    "rmsprop": {"momentum": _NotNegative, "alpha": _Decay, "eps": _EPS, "centered": bool},
}
"""Further keys by ``optimizer.name``; all may be left out."""
_LOGGERS = Literal["csv", "none", "tensorboard", "wandb"]
_OF_LOGGER: dict[str, dict[str, Any]] = {
    "wandb": {
        "project": _Text, "entity": _Text | None, "group": _Text | None, "tags": list[str], "offline": bool | None,
    },
}  # fmt: skip
NODES = ("task", "model", "cell", "kernel", "optimizer", "trainer", "data", "logger")
"""The groups that every run has."""
_PLUGINS = ("cell", "kernel", "model", "task", "preprocessing")


def plain_config(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as resolved plain values with every key checked.

    Args:
        config: composed, or plain values, where keys that an earlier release did not have take their defaults.

    Raises:
        UserError: a key does not exist or is missing, or a value is of the wrong type or out of its range.
    """
    try:
        plain = _resolved(config) if isinstance(config, DictConfig) else with_defaults(config)
    except OmegaConfBaseException as error:
        raise UserError(explain_omegaconf(error)) from error
    check_groups(plain)
    plain = expand_pinned(plain)
    _check_config(plain)
    return plain


def _resolved(config: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in config:
        if key != "hydra":
            found[str(key)] = value = config[key]
            if OmegaConf.is_config(value):
                found[str(key)] = OmegaConf.to_container(value, resolve=True, throw_on_missing=True, enum_to_str=True)
    return found


def with_defaults(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the defaults of the keys that one of an earlier release lacks."""
    check_groups(plain)
    made = {**_defaults(Run), "preprocessing": None, **plain}
    for group, schema in (("trainer", Trainer), ("data", Data)):
        made[group] = {**_defaults(schema), **plain[group]}
    return made


def check_groups(plain: Mapping[str, Any]) -> None:
    """Check that a config has the groups of a run."""
    if lacking := [key for key in NODES if not isinstance(plain.get(key), Mapping)]:
        raise UserError(f"the config has no {', '.join(lacking)}")


def _check_config(plain: Mapping[str, Any]) -> None:
    known = keys_of(plain)
    types = _types(Run)
    own = {*NODES, *_PLUGINS, "callbacks", *types}
    for key, value in plain.items():
        if key not in own and isinstance(value, Mapping):
            raise UserError(
                f"{key}: nothing reads this key; a file of the group {key} whose keys are those of a run must begin "
                "with the line # @package _global_"
            )
        if key not in own:
            raise UserError(unknown_key(str(key), [each for each in known if each.partition(".")[0] in own]))
    _check_keys("", {key: plain[key] for key in types if key in plain}, types, types, known)
    for group, schema in (("trainer", Trainer), ("data", Data)):
        _check_keys(f"{group}.", plain[group], _types(schema), _types(schema), known)
    trainer = plain["trainer"]
    if trainer["max_epochs"] is None and trainer["max_steps"] == -1 and trainer["max_minutes"] is None:
        raise UserError("trainer.max_epochs=null needs trainer.max_steps or trainer.max_minutes to end the run")
    _check_named("optimizer", plain["optimizer"], _types(Optimizer), _OF_OPTIMIZER, known)
    _check_named("logger", plain["logger"], {"name": _LOGGERS}, _OF_LOGGER, known)
    for kind in _PLUGINS:
        if plain.get(kind) is not None:
            check_node(kind, kind, plain[kind], known)
    for name, node in (plain.get("callbacks") or {}).items():
        check_node("callback", f"callbacks.{name}", node, known)


def _check_named(
    group: str,
    node: Mapping[str, Any],
    common: Mapping[str, Any],
    by_name: Mapping[str, Mapping[str, Any]],
    known: list[str],
) -> None:
    """Check a group whose further keys depend on its ``name``."""
    _check_keys(f"{group}.", {"name": node.get("name")}, common, ("name",), known)
    own = {**common, **by_name.get(node["name"], {})}
    others = {key: name for name, keys in by_name.items() for key in keys if key not in own}
    for key in node:
        if key in others:
            raise UserError(f"{group}.{key}: {group}.name={node['name']} has no such key; {others[key]} has one")
    _check_keys(f"{group}.", node, own, ("name", "lr") if group == "optimizer" else own, known)


def _check_keys(
    prefix: str, node: Mapping[str, Any], types: Mapping[str, Any], needed: Iterable[str], known: list[str]
) -> None:
    own = [f"{prefix}{key}" for key in types]
    for key, value in node.items():
        if key not in types:
            rest = [each for each in known if each.rpartition(".")[0] != prefix.rstrip(".")]
            raise UserError(unknown_key(f"{prefix}{key}", [*own, *rest]))
        check_value(f"{prefix}{key}", types[key], value)
    if missing := [key for key in needed if key not in node]:
        raise UserError(f"{prefix}{missing[0]} is missing; set it, or begin your file with defaults: [default, _self_]")


def _types(schema: type) -> dict[str, Any]:
    return get_type_hints(schema, include_extras=True)


def _defaults(schema: type) -> dict[str, Any]:
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(schema)
        if (each.default, each.default_factory) != (MISSING, MISSING)
    }
