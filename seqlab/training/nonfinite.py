"""Guard against a non-finite loss or gradient: skip the step, or save it and stop."""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from seqlab.contracts import Batch, UserError
from seqlab.io import atomic, formatting
from seqlab.io.formatting import shell_command
from seqlab.recurrence import state_tensors
from seqlab.runs import run_folder

log = logging.getLogger("seqlab")

FOLDER = "nonfinite"
"""Folder of the saved step in the run folder."""
STEP = "step.json"
_TENSORS = "step.safetensors"
_SCHEMA = 1
_EXPLODES = 100
"""Ratio of a gradient's norm to the largest usual one so far from which on a warning is logged."""
_WARM_UP = 10
"""Steps after which the usual norm is known."""
_MAX_STEPS = 2**24
_MAX_LENGTH = 2**15
"""Time steps of a batch: each takes a node of the graph, so that a small file could take hours."""
_MEMORY = 0.98
"""Decay of the usual norm, an average over about 50 steps."""


@final
class NonFiniteGuard:
    """Check each step's loss, and the gradient's norm where gradients are clipped; skip up to ``skip`` steps."""

    def __init__(self, folder: Path, skip: int = 0, *, saves: bool = True) -> None:
        self.folder, self.skip, self.saves = folder, skip, saves
        self.skipped = 0
        self._batch: Batch | None = None
        self._state: list[Tensor] = []
        self._rng = torch.empty(0)
        self._usual_norm: float | None = None
        self._largest_usual = 0.0
        self._norms = 0
        self._has_warned = False

    def start_step(self, batch: Batch, state: Any) -> None:
        """Keep what a step reads, until the next one."""
        self._batch, self._state, self._rng = batch, state_tensors(state), torch.get_rng_state()

    def accepts_loss(self, loss: Tensor, module: nn.Module, step: int, epoch: int) -> bool:
        """Return whether a loss is finite."""
        value = float(loss.detach())
        return math.isfinite(value) or self._skip("loss", value, module, step, epoch)

    def accepts_gradient(self, norm: float, module: nn.Module, step: int, epoch: int) -> bool:
        """Return whether a gradient's norm is finite; warn once of an unusually large one."""
        if not math.isfinite(norm):
            return self._skip("gradient", norm, module, step, epoch)
        usual = self._usual_norm
        # Where the loss has come near zero, one wrong example has a hundred times the usual norm of those steps.
        if self._norms >= _WARM_UP and not self._has_warned and 0 < _EXPLODES * self._largest_usual < norm:
            log.warning(
                "the gradient explodes: its norm before clipping is %.3g at step %s, usually %.3g; if the loss does not"
                " recover, lower optimizer.lr or trainer.gradient_clip_val",
                norm, f"{step:,}", usual,
            )  # fmt: skip
            self._has_warned = True
        self._norms += 1
        if norm > 0:
            self._usual_norm = norm if usual is None else usual**_MEMORY * norm ** (1 - _MEMORY)
            if self._norms >= _WARM_UP:
                self._largest_usual = max(self._largest_usual, self._usual_norm)
        return True

    def _skip(self, what: str, value: float, module: nn.Module, step: int, epoch: int) -> bool:
        """Return False if the step may be skipped; else save it and raise."""
        self.skipped += 1
        if self.skipped <= self.skip:
            log.warning(
                "step %s is skipped: its %s is %s (%s of trainer.skip_nonfinite=%s)",
                f"{step:,}", what, value, self.skipped, self.skip,
            )  # fmt: skip
            return False
        folder = self.folder / FOLDER
        if self.saves:
            self._save(folder, {"what": what, "value": str(value), "step": step, "epoch": epoch}, module)
        replay = shell_command("replay", formatting.relative_path(folder))
        raise UserError(
            f"the {what} is {value} at step {step:,} of epoch {epoch + 1}; `{replay}` shows where it begins; "
            "set a lower optimizer.lr, or trainer.skip_nonfinite=<number of steps to skip>"
        )

    def _save(self, folder: Path, record: Mapping[str, Any], module: nn.Module) -> None:
        assert self._batch is not None
        tensors = {f"weights.{name}": value for name, value in module.state_dict().items()}
        tensors |= {"batch.inputs": self._batch.inputs, "batch.targets": self._batch.targets, "rng": self._rng}
        if self._batch.lengths is not None:
            tensors["batch.lengths"] = self._batch.lengths
        tensors |= {f"state.{index}": value for index, value in enumerate(self._state)}
        run_folder.write_weights(folder / _TENSORS, tensors)
        atomic.write_json(folder / STEP, {"schema": _SCHEMA, **record})


@final
class SavedStep:
    """Step that was saved: what was not finite (``record``), batch, carried state, and the weights before it."""

    def __init__(self, folder: Path) -> None:
        where, file = folder / STEP, folder / _TENSORS
        self.record = run_folder.read_json(where, plain=True)
        if self.record.get("schema") != _SCHEMA:
            raise UserError(f"{where} has schema {self.record.get('schema')}; this version reads {_SCHEMA}")
        if not all(type(self.record.get(key)) is int for key in ("step", "epoch")):
            raise UserError(f"{where}: step and epoch must be whole numbers")
        tensors = run_folder.read_weights(file)
        try:
            self.batch = Batch(tensors["batch.inputs"], tensors.get("batch.lengths"), tensors["batch.targets"])
            self.rng = tensors["rng"]
            shape = self.batch.inputs.shape
            if shape.numel() > _MAX_STEPS or shape[1:2].numel() > _MAX_LENGTH:
                raise UserError(f"{file}: a batch of shape {list(shape)} is too large")
            count = sum(name.startswith("state.") for name in tensors)
            self.state = [tensors[f"state.{index}"] for index in range(count)]
        except KeyError as error:
            raise UserError(f"{file} has no tensor {error}") from error
        self.weights = {name[len("weights.") :]: tensors[name] for name in tensors if name.startswith("weights.")}


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[dict[str, list[float]]]:
    """Record the largest output and the share of non-finite outputs of each submodule, in the order of execution."""
    found: dict[str, list[float]] = {}

    def recorder(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            tensors = [each for each in tree_leaves(outputs) if isinstance(each, Tensor)]
            values = [value.detach() for value in tensors if value.is_floating_point() and value.numel()]
            if values:
                finite = [value[value.isfinite()].abs() for value in values]
                largest = max((float(value.max()) for value in finite if value.numel()), default=0.0)
                bad = sum(int((~value.isfinite()).sum()) for value in values) / sum(value.numel() for value in values)
                found[name] = [largest, bad]

        return hook

    handles = [part.register_forward_hook(recorder(name)) for name, part in model.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
