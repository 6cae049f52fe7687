"""Early stopping."""

from typing import Any, final

from pytorch_lightning import callbacks


@final
class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping, with the patience of the config where a run goes on, not that of the checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what was seen so far."""
        super().load_state_dict({**state_dict, "patience": self.patience})
