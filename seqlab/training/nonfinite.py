"""A loss or a gradient that is no finite number: training ends there, with what it takes to see why."""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from seqlab.contracts import Batch, UserError
from seqlab.io import atomic, formatting
from seqlab.recurrence import state_tensors
from seqlab.runs import run_folder
from seqlab.runs.commands import shell_command

log = logging.getLogger("seqlab")

FOLDER = "nonfinite"
"""Where in the run folder the step is kept."""
TENSORS = "step.safetensors"
PAGE = "step.json"
SCHEMA = 1
EXPLODES = 100
"""How many times its usual size a gradient's norm has to be to be told."""
AFTER = 10
"""Steps after which it is known what is usual."""
_MOST_STEPS = 2**24
_LONGEST = 2**15
"""Time steps of a batch: each takes a node of the graph, and a stranger's few bytes would take hours."""
_MEMORY = 0.98
"""Weight of what was before in the usual norm: that of about 50 steps."""


@final
class Guard:
    """Looks at each step's loss, and at the gradient's norm where gradients are clipped.

    Args:
        folder: the run folder.
        skip: steps to leave out before giving up.
        keeps: whether this process writes the step down.
    """

    def __init__(self, folder: Path, skip: int = 0, *, keeps: bool = True) -> None:
        self.folder, self.skip, self.keeps = folder, skip, keeps
        self.skipped = 0
        self._batch: Batch | None = None
        self._state: list[Tensor] = []
        self._rng = torch.empty(0)
        self._usual: float | None = None
        self._norms = 0
        self._told = False

    def begin(self, batch: Batch, state: Any) -> None:
        """Remember what a step reads, until the next one."""
        self._batch, self._state, self._rng = batch, state_tensors(state), torch.get_rng_state()

    def takes(self, loss: Tensor, module: nn.Module, step: int, epoch: int) -> bool:
        """Say whether a loss is fit to be trained on.

        Raises:
            UserError: it is not, and no more steps may be left out.
        """
        return math.isfinite(float(loss.detach())) or self._leave_out("loss", float(loss.detach()), module, step, epoch)

    def takes_gradient(self, norm: float, module: nn.Module, step: int, epoch: int) -> bool:
        """Say whether a gradient of this norm is fit to be stepped along, and tell of one that is unusually large.

        Raises:
            UserError: it is not, and no more steps may be left out.
        """
        if not math.isfinite(norm):
            return self._leave_out("gradient", norm, module, step, epoch)
        known = self._usual is not None and self._norms >= AFTER and not self._told
        if known and norm > EXPLODES * (self._usual or 0):
            log.warning(
                "the gradient explodes: its norm is %.3g at step %s, where it was %.3g before; "
                "trainer.gradient_clip_val cuts it off",
                norm, f"{step:,}", self._usual,
            )  # fmt: skip
            self._told = True
        self._norms += 1
        if norm > 0:
            self._usual = norm if self._usual is None else self._usual**_MEMORY * norm ** (1 - _MEMORY)
        return True

    def _leave_out(self, what: str, value: float, module: nn.Module, step: int, epoch: int) -> bool:
        self.skipped += 1
        if self.skipped <= self.skip:
            log.warning(
                "step %s is left out: its %s is %s (%s of trainer.skip_nonfinite=%s)",
                f"{step:,}", what, value, self.skipped, self.skip,
            )  # fmt: skip
            return False
        folder = self.folder / FOLDER
        if self.keeps:
            self._keep(folder, {"what": what, "value": str(value), "step": step, "epoch": epoch}, module)
        shown = shell_command("replay", formatting.relative_path(folder))
        raise UserError(
            f"the {what} is {value} at step {step:,} of epoch {epoch + 1}; "
            f"`{shown}` shows where it begins; "
            "a lower optimizer.lr, or trainer.skip_nonfinite=<steps to leave out>, goes on"
        )

    def _keep(self, folder: Path, page: Mapping[str, Any], module: nn.Module) -> None:
        assert self._batch is not None
        tensors = {f"weights.{name}": value for name, value in module.state_dict().items()}
        tensors |= {"batch.inputs": self._batch.inputs, "batch.targets": self._batch.targets, "rng": self._rng}
        if self._batch.lengths is not None:
            tensors["batch.lengths"] = self._batch.lengths
        tensors |= {f"state.{index}": leaf for index, leaf in enumerate(self._state)}
        run_folder.write_weights(folder / TENSORS, tensors)
        atomic.write_json(folder / PAGE, {"schema": SCHEMA, **page})


@final
class SavedStep:
    """A step that was kept.

    Attributes:
        page: what was found, and when.
        batch: what was read.
        state: leaves of the state that was carried there.
        weights: of the model, before the step.
        rng: the state of the random generator of the CPU.

    Args:
        folder: ``nonfinite`` of a run.

    Raises:
        UserError: it holds no such step.
    """

    def __init__(self, folder: Path) -> None:
        self.page = run_folder.read_json(folder / PAGE, plain=True)
        if self.page.get("schema") != SCHEMA:
            raise UserError(f"{folder / PAGE} has schema {self.page.get('schema')}; this version reads {SCHEMA}")
        if not all(type(self.page.get(key)) is int for key in ("step", "epoch")):
            raise UserError(f"{folder / PAGE} says of no step and epoch when it was")
        tensors = run_folder.read_weights(folder / TENSORS)
        try:
            self.batch = Batch(tensors["batch.inputs"], tensors.get("batch.lengths"), tensors["batch.targets"])
            self.rng = tensors["rng"]
            shape = self.batch.inputs.shape
            if shape.numel() > _MOST_STEPS or shape[1:2].numel() > _LONGEST:
                raise UserError(f"{folder / TENSORS} has a batch of the shape {list(shape)}; that is no step")
        except KeyError as error:
            raise UserError(f"{folder / TENSORS} has no tensor {error}") from error
        self.state = [tensors[name] for name in sorted(tensors, key=_number) if name.startswith("state.")]
        self.weights = {name[len("weights.") :]: tensors[name] for name in tensors if name.startswith("weights.")}


def _number(name: str) -> int:
    end = name.rpartition(".")[2]
    return int(end) if end.isdigit() else -1


@contextmanager
def outputs_of(model: nn.Module) -> Iterator[dict[str, list[float]]]:
    """Note of each part of a model, in the order in which they end, the largest output and the share not finite."""
    found: dict[str, list[float]] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            values = [leaf.detach() for leaf in _tensors(outputs) if leaf.is_floating_point() and leaf.numel()]
            if values:
                finite = [value[value.isfinite()].abs() for value in values]
                largest = max((float(value.max()) for value in finite if value.numel()), default=0.0)
                bad = sum(int((~value.isfinite()).sum()) for value in values) / sum(value.numel() for value in values)
                found[name] = [largest, bad]

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in model.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
