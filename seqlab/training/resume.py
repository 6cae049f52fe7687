"""What a checkpoint records of the run that wrote it, and what may change when the run goes on."""

import copy
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor

from seqlab.contracts import UserError
from seqlab.data.fingerprint import differences
from seqlab.runs.run_folder import MODEL, RESUME, read_weights
from seqlab.training.checkpoint import read_checkpoint

log = logging.getLogger("seqlab")

RECORD = "run"
"""The checkpoint's key for the record."""
INSIST = "data.allow_change"

REFUSED = (
    "seed", "init_from", "freeze", "cell", "model", "task", "preprocessing",
    "optimizer.name", "optimizer.schedule", "optimizer.averaging", "optimizer.amsgrad", "optimizer.centered",
    "trainer.precision", "trainer.accumulate_grad_batches", "trainer.limit_train_batches",
    "trainer.limit_val_batches", "trainer.overfit_batches", "data.batch_size", "data.bucket",
    "data.duplicates",
)  # fmt: skip
"""Keys that a run keeps when it goes on, each with all keys below it; every other key takes effect."""
_OF_DATA = ("task", "preprocessing")
"""What :data:`INSIST` allows to change, but for the names of the plugins."""
_WITHOUT_EFFECT = (
    "logger", "ckpt_path", "hydra", INSIST, "data.workers",
    "trainer.progress", "trainer.profiler", "trainer.checkpoint_minutes",
)  # fmt: skip
"""Keys that no result depends on, which the history leaves out."""
_MISSING = "(not set)"


@final
class Record:
    """What a run was trained with: its config, the fingerprint of its data, and the history of both.

    A segment of the history has ``from`` and ``to`` (whole epochs and steps of the optimiser done) and ``changed``,
    the keys that are others than in the segment before, each with both values. Where ``data.allow_change`` let other
    data in, ``data`` says what differed. A segment that a release without records trained is marked ``unrecorded``.

    Args:
        config: of the run, as it is now.
        history: of the segments before this one.
        segment: the one that begins.
    """

    def __init__(
        self, config: Mapping[str, Any], history: Sequence[Mapping[str, Any]], segment: dict[str, Any]
    ) -> None:
        self.config: dict[str, Any] = _plain(config)
        self.data: dict[str, Any] | None = None
        self._history, self._segment = list(history), segment

    def history(self, epochs: int, steps: int) -> list[dict[str, Any]]:
        """Return all segments, the last one up to here."""
        return [*map(dict, self._history), {**self._segment, "to": {"epoch": epochs, "step": steps}}]

    def state(self, epochs: int, steps: int) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"config": self.config, "data": self.data, "history": self.history(epochs, steps)}

    def note_data(self, changes: Sequence[str]) -> None:
        """Add to the history what differs in the data."""
        if changes:
            self._segment["data"] = list(changes)


@final
class ResumePoint:
    """A checkpoint to go on from.

    Attributes:
        path: the file.
        weights: those that validation had chosen when it was written; ``None`` where they are nowhere to be found.
        epochs, steps: whole epochs and steps of the optimiser that are done.
        within: whether it stands within an epoch.

    Args:
        asked: what ``ckpt_path`` says.
        path: the file.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, asked: str, path: Path) -> None:
        self.path, self._where = path, f"ckpt_path={asked}"
        checkpoint = read_checkpoint(path)
        self._record: dict[str, Any] | None = checkpoint.get(RECORD)
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        self.weights = _best_weights(checkpoint, path)
        self.epochs, self.within = int(progress["processed"]), progress["processed"] < progress["ready"]
        self.steps = int(checkpoint["global_step"])
        self._told: tuple[int, str] | None = None

    def begin(self, plain: Mapping[str, Any], folder: Path) -> Record:
        """Check which keys of the config differ, tell which of them take effect, and begin the next segment.

        Args:
            plain: the config of the run that goes on.
            folder: its folder.

        Raises:
            UserError: a key cannot change, or less is asked for than is done.
        """
        self._check_length(plain["trainer"])
        here = {"from": {"epoch": self.epochs, "step": self.steps}}
        if self._record is None:
            self._told = logging.WARNING, "written by a release that recorded neither config nor data: unchecked"
            before = {"from": {"epoch": 0, "step": 0}, "to": here["from"], "changed": {}, "unrecorded": True}
            return Record(plain, [before], {**here, "changed": {}})
        changed = dict(_changed(self._record["config"], _plain(plain)))
        if self.is_of(folder):  # of which init_from and freeze are checked elsewhere
            changed = {key: both for key, both in changed.items() if not _is_of(key, ("init_from", "freeze"))}
        self._check_keys(changed, insists=allows_data_change(plain))
        changed = {key: both for key, both in changed.items() if not _is_of(key, _WITHOUT_EFFECT)}
        history = [dict(segment) for segment in self._record["history"]]
        if not changed:
            return Record(plain, history[:-1], history[-1])
        told = ", ".join(f"{key}={_shown(now)} (was {_shown(then)})" for key, (then, now) in changed.items())
        self._told = logging.INFO, f"from step {self.steps:,} on with {told}"
        return Record(plain, history, {**here, "changed": {key: list(both) for key, both in changed.items()}})

    def tell(self) -> None:
        """Log what is not as it was, once nothing is left that could refuse to go on."""
        if self._told is not None:
            log.log(self._told[0], "%s: %s", self._where, self._told[1])

    def is_of(self, folder: Path) -> bool:
        """Whether the checkpoint is one of this run folder."""
        return self.path.resolve().parent == folder.resolve()

    def check_data(self, data: Mapping[str, Any], plain: Mapping[str, Any]) -> list[str]:
        """Compare the fingerprint of the data with that of the data that the run was trained on.

        Args:
            data: the fingerprint.
            plain: the config of the run that goes on.

        Returns:
            What differs, where ``data.allow_change`` insists.

        Raises:
            UserError: something differs, and nobody insists; or the model cannot read the data.
        """
        then = None if self._record is None else self._record["data"]
        if then is None or not (found := differences(then, data)):
            return []
        line = f"{self._where}: the data are not those that the run was trained on: {'; '.join(found)}"
        if fingerprint_sizes(then) != fingerprint_sizes(data):
            raise UserError(f"{line}; the model cannot read them: begin a new run, with init_from for its weights")
        if not allows_data_change(plain):
            raise UserError(f"{line}; {INSIST}=true goes on with them")
        log.warning("%s", line)
        return found

    def _check_length(self, trainer: Mapping[str, Any]) -> None:
        epochs, steps = trainer["max_epochs"], trainer["max_steps"]
        begun = self.epochs + self.within
        if epochs is not None and epochs < begun:
            done = f"{begun} epochs" if not self.within else f"{self.epochs} epochs and a part of the next"
            raise UserError(f"{self._where}: trainer.max_epochs must be >= {begun}, got {epochs}: {done} are done")
        if 0 <= steps < self.steps:
            raise UserError(f"{self._where}: trainer.max_steps must be >= {self.steps}, got {steps}: so many are done")

    def _check_keys(self, changed: Mapping[str, tuple[Any, Any]], *, insists: bool) -> None:
        refused = {key: both for key, both in changed.items() if _is_of(key, REFUSED)}
        of_data = [key for key, both in refused.items() if _is_of(key, _OF_DATA) and not key.endswith(".name")]
        refused = {key: both for key, both in refused.items() if key not in of_data or not (insists or _is_place(both))}
        if "optimizer.name" in refused:  # whose other keys follow from it
            refused = {
                key: both for key, both in refused.items() if not key.startswith("optimizer.") or key[10:] == "name"
            }
        if not refused:
            return
        told = "; ".join(f"{key} was {_shown(then)}, is {_shown(now)}" for key, (then, now) in refused.items())
        way = f"; {INSIST}=true goes on with other data" if set(refused) <= set(of_data) else ""
        raise UserError(
            f"{self._where}: what a run began with it keeps: {told}; set them as they were, or begin a new run{way}"
        )


def _best_weights(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor] | None:
    """Find the weights that validation had chosen: in the checkpoint, if it is theirs, or beside it."""
    choice = checkpoint["callbacks"].get("RunCheckpoint", {})
    if choice.get("best_step", -1) == checkpoint["global_step"] == choice.get("validated"):
        own = checkpoint["state_dict"].items()
        return {name.removeprefix("model."): value for name, value in own if name.startswith("model.")}
    beside = path.with_name(MODEL)
    return read_weights(beside) if path.name == RESUME and beside.is_file() else None


def first_record(plain: Mapping[str, Any]) -> Record:
    """Begin the record of a run that begins."""
    return Record(plain, [], {"from": {"epoch": 0, "step": 0}, "changed": {}})


def allows_data_change(plain: Mapping[str, Any]) -> bool:
    """Whether the config lets a run go on with other data."""
    return plain["data"].get("allow_change", False) is True


def fingerprint_sizes(data: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the numbers of labels and of the vocabulary's entries in a fingerprint, which a model is made for."""
    labels, vocabulary = data["labels"], data["vocabulary"]
    return None if labels is None else len(labels), None if vocabulary is None else vocabulary["size"]


def config_history(record: Mapping[str, Any]) -> list[tuple[dict[str, Any], int | None]]:
    """Return the configs that a run was trained with, each with the step after which the next one began.

    Args:
        record: ``results.json``.

    Raises:
        UserError: a part of the run is not recorded, or was trained on data that are gone.
    """
    config, history = copy.deepcopy(dict(record["config"])), record.get("history") or []
    if any(segment.get("unrecorded") for segment in history):
        raise UserError("it went on from a checkpoint of a release that kept no record, so it cannot be reproduced")
    if found := [segment["data"] for segment in history if segment.get("data")]:
        raise UserError(f"it went on with other data ({'; '.join(found[0])}), so it cannot be reproduced")
    if len(history) > 1 and config["trainer"]["devices"] != 1:
        raise UserError("it went on with another config on several devices, which cannot be reproduced")
    parts: list[tuple[dict[str, Any], int | None]] = []
    until = None
    for segment in reversed(history):
        parts.insert(0, (copy.deepcopy(config), until))
        for key, (then, _) in segment["changed"].items():
            _put(config, key, then)
        until = segment["from"]["step"]
    return parts or [(config, None)]


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    name, _, rest = key.partition(".")
    if rest:
        _put(config.setdefault(name, {}), rest, value)
    if not rest and value != _MISSING:
        config[name] = value
    elif not rest or not config[name]:
        config.pop(name, None)


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Compare two configs by key; of the core's and plugins' nodes, an option that a config lacks was not there yet."""
    before, after = dict(_leaves(then)), dict(_leaves(now))
    for key in dict.fromkeys([*before, *after]):
        both = before.get(key, _MISSING), after.get(key, _MISSING)
        if _MISSING in both and not key.startswith(("optimizer.", "callbacks.")) and not key.endswith(".name"):
            continue
        if json.dumps(both[0]) != json.dumps(both[1]):  # NaN is NaN
            yield key, both


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_of(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _is_place(both: tuple[Any, Any]) -> bool:
    """Whether a value names a file or folder, of which the fingerprint says whether it holds the same data."""
    return all(isinstance(value, str) for value in both) and Path(both[1]).exists()


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return plain
