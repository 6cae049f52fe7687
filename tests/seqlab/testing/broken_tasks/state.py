"""Tasks with one fault each, in the state."""

import json
import tempfile
from typing import Any

import torch

from seqlab import Task

from ..good_tasks import TwoClasses


class KeepsATensor(TwoClasses):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "shares": torch.tensor(self.shares)}


class KeepsTuples(TwoClasses):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "labels": tuple(self.labels)}


class LoadsLabelsSorted(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.labels.sort()


class LoadsWithItsData(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(state).encode())


class BelievesAnything(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.labels, self.shares = list(state.get("labels", [])), list(state.get("shares", []))


class BelievesTypes(TwoClasses):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"labels", "shares"}:
            raise ValueError("the state must have labels and shares, and nothing else")
        self.labels, self.shares = state["labels"], state["shares"]


CAUGHT: list[tuple[type[Task], str]] = [
    (KeepsATensor, "state_is_plain_json"),
    (KeepsTuples, "state_is_plain_json"),
    (LoadsLabelsSorted, "state_is_restored"),
    (LoadsWithItsData, "state_is_restored"),
    (BelievesAnything, "bad_states_are_refused"),
    (BelievesTypes, "bad_states_are_refused"),
]
"""Each fault, and the check that must find it."""
