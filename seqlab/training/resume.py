"""Resuming: what a checkpoint records of its run, and what may change when the run continues."""

import copy
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor

from seqlab.contracts import UserError
from seqlab.data.fingerprint import differences
from seqlab.data.updates import AUTO, AUTO_KEYS
from seqlab.plugins.config import added_options
from seqlab.runs.run_folder import MODEL, RESUME, read_weights
from seqlab.training.checkpoint import read_checkpoint

log = logging.getLogger("seqlab")

RECORD = "run"
"""Key of the record in a checkpoint."""
_ALLOW_CHANGE = "data.allow_change"

_FIXED = (
    "seed", "init_from", "freeze", "cell", "model", "task", "preprocessing",
    "optimizer.name", "optimizer.schedule", "optimizer.averaging", "optimizer.recurrent_lr", "optimizer.amsgrad",
    "optimizer.centered",
    "trainer.precision", "trainer.accumulate_grad_batches", "trainer.limit_train_batches",
    "trainer.limit_val_batches", "trainer.overfit_batches", "data.batch_size", "data.tokens_per_batch", "data.bucket",
    "data.duplicates",
)  # fmt: skip
"""Keys that may not change when a run resumes, each with all keys below it; every other key takes effect."""
_DATA_KEYS = ("task", "preprocessing")
"""Fixed keys that ``data.allow_change`` allows to change, except for the names of the plugins."""
_WITHOUT_EFFECT = (
    "logger", "ckpt_path", "hydra", _ALLOW_CHANGE, "data.workers",
    "trainer.progress", "trainer.profiler", "trainer.checkpoint_minutes",
)  # fmt: skip
"""Keys that change no result; the history leaves them out."""
_MISSING = "(not set)"

_Change = tuple[Any, Any]
"""Values of a key before and now."""


@final
class TrainingRecord:
    """Config, data fingerprint and history of a run.

    A segment of the history has ``from`` and ``to`` (whole epochs and optimiser steps done) and ``changed``: the keys
    that differ from the segment before, each with both values. Where ``data.allow_change`` admitted other data,
    ``data`` lists the differences. A segment trained by a release without records is marked ``unrecorded``.

    Args:
        config: of the run, as it is now.
        history: the segments before this one.
        segment: the one that starts.

    Attributes:
        data: the fingerprint of the data.
    """

    def __init__(
        self, config: Mapping[str, Any], history: Sequence[Mapping[str, Any]], segment: dict[str, Any]
    ) -> None:
        self.config: dict[str, Any] = _json_copy(config)
        self.data: dict[str, Any] | None = None
        self._history, self._segment = list(history), segment

    def history(self, epochs: int, steps: int) -> list[dict[str, Any]]:
        """Return all segments, the last one up to here."""
        return [*map(dict, self._history), {**self._segment, "to": {"epoch": epochs, "step": steps}}]

    def state(self, epochs: int, steps: int) -> dict[str, Any]:
        """Return the checkpoint's entry."""
        return {"config": self.config, "data": self.data, "history": self.history(epochs, steps)}

    def fill_auto(self, config: Mapping[str, Any]) -> None:
        """Replace each ``auto`` by the number that was chosen for it, so that a resumed run keeps it."""
        for group, key in AUTO_KEYS:
            if self.config[group][key] == AUTO:
                self.config[group][key] = config[group][key]

    def add_data_changes(self, changes: Sequence[str]) -> None:
        """Add differences of the data to the current segment."""
        if changes:
            self._segment["data"] = list(changes)


def new_record(config: Mapping[str, Any]) -> TrainingRecord:
    """Return the record of a run that starts from nothing."""
    return TrainingRecord(config, [], {"from": {"epoch": 0, "step": 0}, "changed": {}})


@final
class ResumePoint:
    """Checkpoint to resume from.

    Attributes:
        path: the file.
        weights: the best ones when it was written; ``None`` where they are not to be found.
        epochs, steps: whole epochs and optimiser steps done.
        within: whether it was written within an epoch.

    Args:
        ckpt_path: as the config has it.
        path: the file.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, ckpt_path: str, path: Path) -> None:
        self.path, self._where = path, f"ckpt_path={ckpt_path}"
        try:
            checkpoint = read_checkpoint(path)
        except UserError as error:
            raise UserError(f"{self._where}: {error}") from error
        self._record: dict[str, Any] | None = checkpoint.get(RECORD)
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        self.weights = _best_weights(checkpoint, path)
        self.epochs, self.within = int(progress["processed"]), progress["processed"] < progress["ready"]
        self.steps = int(checkpoint["global_step"])
        self._note: tuple[int, str] | None = None

    def fill_defaults(self, config: Mapping[str, Any], chosen: Iterable[str]) -> dict[str, Any]:
        """Return the config with the recorded number in place of each ``auto``, and its values of the ``chosen`` keys.

        Args:
            config: of the resumed run.
            chosen: keys whose defaults the task chose, which may have been others in an earlier release.
        """
        filled = copy.deepcopy(dict(config))
        then = {} if self._record is None else self._record["config"]
        for group, key in AUTO_KEYS:
            if filled[group][key] == AUTO and isinstance(number := then.get(group, {}).get(key), int):
                filled[group][key] = number
        for group, _, key in (each.partition(".") for each in chosen):
            before = then.get(group) or {}
            if before.get("name") == filled[group]["name"]:
                values = before if key in before else added_options(group, before["name"])
                filled[group][key] = copy.deepcopy(values.get(key, filled[group][key]))
        return filled

    def start_segment(self, config: Mapping[str, Any], folder: Path) -> TrainingRecord:
        """Check the keys of the config that changed, and start the next segment of the history.

        Args:
            config: of the resumed run.
            folder: its folder.

        Raises:
            UserError: a key may not change, or ``max_epochs`` or ``max_steps`` are fewer than are done.
        """
        self._check_length(config["trainer"])
        here = {"from": {"epoch": self.epochs, "step": self.steps}}
        if self._record is None:
            self._note = logging.WARNING, "written by a release that recorded neither config nor data: not checked"
            before = {"from": {"epoch": 0, "step": 0}, "to": here["from"], "changed": {}, "unrecorded": True}
            return TrainingRecord(config, [before], {**here, "changed": {}})
        changed = dict(_changes(self._record["config"], _json_copy(config)))
        if self.is_in(folder):  # finetune.py checks init_from and freeze
            changed = {key: change for key, change in changed.items() if not _is_below(key, ("init_from", "freeze"))}
        self._check_keys(changed, allows_data=_allows_data_change(config))
        changed = {key: change for key, change in changed.items() if not _is_below(key, _WITHOUT_EFFECT)}
        history = [dict(segment) for segment in self._record["history"]]
        if not changed:
            return TrainingRecord(config, history[:-1], history[-1])
        listed = ", ".join(f"{key}={_typed(now)} (was {_typed(then)})" for key, (then, now) in changed.items())
        self._note = logging.INFO, f"resumed at step {self.steps:,} with {listed}"
        return TrainingRecord(config, history, {**here, "changed": {key: [*change] for key, change in changed.items()}})

    def log_changes(self) -> None:
        """Log the changed keys, after everything that could refuse to resume."""
        if self._note is not None:
            log.log(self._note[0], "%s: %s", self._where, self._note[1])

    def is_in(self, folder: Path) -> bool:
        """Whether the checkpoint belongs to this run folder."""
        return self.path.resolve().parent == folder.resolve()

    def check_data(self, data: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
        """Compare the fingerprint of the data with the recorded one.

        Args:
            data: the fingerprint.
            config: of the resumed run.

        Returns:
            The differences, which ``data.allow_change`` admits.

        Raises:
            UserError: the data differ and that is not allowed, or the model cannot read them.
        """
        then = None if self._record is None else self._record["data"]
        if then is None or not (found := differences(then, data)):
            return []
        line = f"{self._where}: the data are not those that the run was trained on: {'; '.join(found)}"
        if _fingerprint_sizes(then) != _fingerprint_sizes(data):
            raise UserError(f"{line}; the model cannot read them: start a new run, with init_from for its weights")
        if not _allows_data_change(config):
            raise UserError(f"{line}; set {_ALLOW_CHANGE}=true to resume with them")
        log.warning("%s", line)
        return found

    def _check_length(self, trainer: Mapping[str, Any]) -> None:
        epochs, steps = trainer["max_epochs"], trainer["max_steps"]
        begun = self.epochs + self.within
        if isinstance(epochs, int) and epochs < begun:
            done = f"{begun} epochs" if not self.within else f"{self.epochs} epochs and a part of the next"
            raise UserError(f"{self._where}: trainer.max_epochs must be >= {begun}, got {epochs}: {done} are done")
        if 0 <= steps < self.steps:
            raise UserError(f"{self._where}: trainer.max_steps must be >= {self.steps}, got {steps}: so many are done")

    def _check_keys(self, changed: Mapping[str, _Change], *, allows_data: bool) -> None:
        refused = {key: change for key, change in changed.items() if _is_below(key, _FIXED)}
        data_keys = {key for key in refused if _is_below(key, _DATA_KEYS) and not key.endswith(".name")}
        # Of a file or folder elsewhere, the fingerprint says whether it holds the same data.
        allowed = {key for key in data_keys if allows_data or _is_path(refused[key])}
        if "optimizer.name" in refused:  # the other keys of the optimiser follow from it
            allowed |= {key for key in refused if key.startswith("optimizer.") and key != "optimizer.name"}
        refused = {key: change for key, change in refused.items() if key not in allowed}
        if not refused:
            return
        listed = "; ".join(f"{key} was {_typed(then)}, is {_typed(now)}" for key, (then, now) in refused.items())
        hint = f"; or set {_ALLOW_CHANGE}=true to resume with other data" if refused.keys() <= data_keys else ""
        raise UserError(f"{self._where}: these keys are fixed: {listed}; set them back, or start a new run{hint}")


def _best_weights(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor] | None:
    """Return the best weights: the checkpoint's own if it is the best, or those beside it."""
    best = checkpoint["callbacks"].get("RunCheckpoint", {})
    if best.get("best_step", -1) == checkpoint["global_step"] == best.get("validated"):
        own = checkpoint["state_dict"].items()
        return {name.removeprefix("model."): value for name, value in own if name.startswith("model.")}
    beside = path.with_name(MODEL)
    return read_weights(beside) if path.name == RESUME and beside.is_file() else None


def _allows_data_change(config: Mapping[str, Any]) -> bool:
    return config["data"].get("allow_change", False) is True


def _fingerprint_sizes(data: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the numbers of labels and of vocabulary entries, which fix the shapes of a model."""
    labels, vocabulary = data["labels"], data["vocabulary"]
    return None if labels is None else len(labels), None if vocabulary is None else vocabulary["size"]


def config_history(record: Mapping[str, Any]) -> list[tuple[dict[str, Any], int | None]]:
    """Return the configs that a run was trained with, each with the step after which the next one took over.

    Options that later versions of a plugin added have the values at which it computes what it did then.

    Args:
        record: ``results.json``.

    Raises:
        UserError: a segment was not recorded, or was trained on other data.
    """
    config, history = copy.deepcopy(dict(record["config"])), record.get("history") or []
    for kind in ("cell", "model", "task", "preprocessing"):
        if isinstance(node := config.get(kind), dict) and isinstance(node.get("name"), str):
            config[kind] = {**added_options(kind, node["name"]), **node}
    if any(segment.get("unrecorded") for segment in history):
        raise UserError("it resumed from a checkpoint of a release that kept no record, so it cannot be reproduced")
    if found := [segment["data"] for segment in history if segment.get("data")]:
        raise UserError(f"it resumed with other data ({'; '.join(found[0])}), so it cannot be reproduced")
    if len(history) > 1 and config["trainer"]["devices"] != 1:
        raise UserError("it resumed with another config on several devices, which cannot be reproduced")
    segments: list[tuple[dict[str, Any], int | None]] = []
    until = None
    for segment in reversed(history):
        segments.insert(0, (copy.deepcopy(config), until))
        for key, (then, _) in segment["changed"].items():
            _set(config, key, then)
        until = segment["from"]["step"]
    segments = segments or [(config, None)]
    for part, _ in segments:
        if part["trainer"].get("max_minutes") is not None:
            _end_by_step(part, record["cost"])
    return segments


def _end_by_step(config: dict[str, Any], cost: Mapping[str, Any]) -> None:
    """Replace ``max_minutes`` by the number of steps that they sufficed for."""
    trainer, optimizer = config["trainer"], config["optimizer"]
    trainer["max_minutes"] = None
    if cost["epochs"] == trainer["max_epochs"] or cost["steps"] == trainer["max_steps"]:
        return
    if optimizer.get("schedule") in ("cosine", "one_cycle") or optimizer.get("warmup"):
        raise UserError("trainer.max_minutes ended it before its schedule did, so it cannot be reproduced")
    trainer["max_steps"] = cost["steps"]


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, or delete it where ``value`` is :data:`_MISSING`."""
    name, _, rest = key.partition(".")
    if rest:
        _set(config.setdefault(name, {}), rest, value)
    if not rest and value != _MISSING:
        config[name] = value
    elif not rest or not config[name]:
        config.pop(name, None)


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, _Change]]:
    """Compare two configs by key; an option that only one of them has belongs to another release and is skipped."""
    before, after = dict(_flat(then)), dict(_flat(now))
    for key in dict.fromkeys([*before, *after]):
        change = before.get(key, _MISSING), after.get(key, _MISSING)
        if _MISSING in change and not key.startswith(("optimizer.", "callbacks.")) and not key.endswith(".name"):
            continue
        if key == "optimizer.recurrent_lr" and {*change} == {_MISSING, None}:
            continue  # a release that had no such key
        if json.dumps(change[0]) != json.dumps(change[1]):  # NaN equals NaN
            yield key, change


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_below(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _is_path(change: _Change) -> bool:
    return all(isinstance(value, str) for value in change) and Path(change[1]).exists()


def _typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _json_copy(config: Mapping[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return copied
