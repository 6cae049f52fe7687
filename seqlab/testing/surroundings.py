"""What a plugin must leave as it was: settings of the process, generators of random numbers, mode and gradients."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from seqlab.contracts import Cell
from seqlab.testing.suite import demand


def seed_all(seed: int) -> None:
    """Seed the random numbers of torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # the global one is meant


def random_states() -> dict[str, Any]:
    """Give the state of each global generator of random numbers, by whose it is, comparable with ``==``."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().tolist(),
        "Python": random.getstate(),
        "NumPy": (name, np.asarray(keys).tolist(), *rest),
    }


def settings() -> dict[str, Any]:
    """Give the settings of torch that hold for the whole process, by what they are called."""
    return {
        "whether gradients are enabled": torch.is_grad_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "the precision of float32 products": torch.get_float32_matmul_precision(),
        "whether algorithms are deterministic": torch.are_deterministic_algorithms_enabled(),
        "whether autograd looks for anomalies": torch.is_anomaly_enabled(),
        "whether denormal numbers are flushed to zero": not bool(torch.full((), 1e-40).mul(1.0)),
        "whether oneDNN is used": torch._C._get_mkldnn_enabled(),
    }


def restore(before: dict[str, Any]) -> None:
    """Set what :func:`settings` gave before, so that one plugin's fault is not the next one's."""
    torch.set_grad_enabled(before["whether gradients are enabled"])
    torch.set_default_dtype(before["the default dtype"])
    torch.set_num_threads(before["the number of threads"])
    torch.set_float32_matmul_precision(before["the precision of float32 products"])
    torch.use_deterministic_algorithms(before["whether algorithms are deterministic"])
    torch.autograd.set_detect_anomaly(before["whether autograd looks for anomalies"])
    torch.set_flush_denormal(before["whether denormal numbers are flushed to zero"])
    torch._C._set_mkldnn_enabled(before["whether oneDNN is used"])


@contextmanager
def unusual_settings() -> Iterator[dict[str, Any]]:
    """Choose settings that no plugin would choose by itself, for a while; give what :func:`settings` gives of them."""
    before = settings()
    chosen = {
        "the number of threads": before["the number of threads"] + 1,
        "the precision of float32 products": "high",
        "whether denormal numbers are flushed to zero": False,
    }
    restore({**before, **chosen})
    try:
        yield settings()
    finally:
        restore(before)


def unchanged(where: str, before: dict[str, Any]) -> None:
    """Demand that the settings are as they were; what was changed is set back.

    Raises:
        AssertionError: one was changed.
    """
    now = settings()
    restore(before)
    changed = [f"{name} (from {before[name]} to {value})" for name, value in now.items() if value != before[name]]
    demand(not changed, f"{where} changes a setting of the whole process: {', '.join(changed)}")


class Trainable:
    """The mode, the ``requires_grad`` and the ``.grad`` of cells, held against what they were.

    Args:
        cells: whose parameters are given a ``.grad`` that nothing may touch.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        for parameter in (parameter for cell in cells for parameter in cell.parameters()):
            parameter.grad = torch.full_like(parameter, 3.0) if parameter.is_floating_point() else None
        self.before = self._now()

    def _now(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for index, cell in enumerate(self.cells):
            for name, module in cell.named_modules():
                found[f"training of {name or 'the cell'} {index}"] = module.training
            for name, parameter in cell.named_parameters():
                found[f"requires_grad of {name} of cell {index}"] = parameter.requires_grad
                found[f".grad of {name} of cell {index}"] = None if parameter.grad is None else parameter.grad.tolist()
        return found

    def unchanged(self, where: str) -> None:
        """Demand that nothing changed.

        Raises:
            AssertionError: something did.
        """
        now = self._now()
        changed = [name for name in self.before if now.get(name) != self.before[name]]
        demand(not changed, f"{where} changes {', '.join(changed)}")
