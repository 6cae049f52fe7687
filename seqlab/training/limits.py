"""How long a run trains and how much of each split it reads: what must hold before it begins."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqlab.errors import UserError

if TYPE_CHECKING:
    from seqlab.training.data import SequenceData

_NEEDED = {
    "limit_train_batches": "a run trains on at least one batch an epoch",
    "limit_val_batches": "the checkpoint is chosen by validation",
    "limit_test_batches": "a run ends by scoring the test split",
}


def check_limits(trainer: Mapping[str, Any]) -> None:
    """Check the limits of a config.

    Raises:
        UserError: a run would have no end, no step, or a split of which nothing is read.
    """
    steps = trainer.get("max_steps", -1)
    if isinstance(steps, int) and steps < 1 and steps != -1:
        raise UserError(f"trainer.max_steps must be >= 1, or -1 for no limit, got {steps}")
    if trainer.get("max_epochs", 1) is None and steps == -1:
        raise UserError("trainer.max_epochs=null needs trainer.max_steps: one of them must end the run")
    for key, reason in _NEEDED.items():
        if trainer.get(key, 1.0) == 0:
            raise UserError(f"trainer.{key} must be > 0, got {trainer[key]}: {reason}")


def check_batches(trainer: Mapping[str, Any], data: "SequenceData") -> None:
    """Check that a share of a split's batches is at least one batch, before anything is trained.

    Raises:
        UserError: it is none.
    """
    loaders: dict[str, Sequence[Any]] = {
        "limit_train_batches": [data.train_dataloader()],
        "limit_val_batches": [data.val_dataloader()],
        "limit_test_batches": _several(data.test_dataloader()),
    }
    for key, several in loaders.items():
        share = trainer.get(key, 1.0)
        fewest = min(map(len, several))
        if isinstance(share, float) and int(fewest * share) < 1:
            least = math.ceil(1e4 / fewest) / 1e4
            raise UserError(
                f"trainer.{key}={share} of {fewest} batches is none; set at least {least}, or a number of batches"
            )


def _several(loaders: Any) -> Sequence[Any]:
    return loaders if isinstance(loaders, list) else [loaders]
