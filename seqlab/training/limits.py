"""How long a run trains and how much of each split it reads: what must hold before it begins."""

from collections.abc import Mapping
from typing import Any

from seqlab.errors import UserError

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
