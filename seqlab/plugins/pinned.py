"""Cells with one of their kernels pinned: ``cell=fused_lstm`` is ``cell=lstm kernel=fused``."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from seqlab.errors import UserError
from seqlab.plugins.registry import find, plugins


def is_pinned(name: str) -> bool:
    """Whether a choice of ``cell=`` is a cell with its kernel; nothing is imported."""
    return name in plugins("pinned")


def pinned_parts(name: str) -> tuple[str, str]:
    """Name the cell and the kernel that a choice of ``cell=`` stands for.

    Raises:
        UserError: it is broken, or its cell is not registered.
    """
    from seqlab.plugins.kernels import cell_names  # which imports torch

    kernel = find("pinned", name).load()
    cells = cell_names(kernel.cell)
    if not cells:
        raise UserError(f"cell={name} is broken: {kernel.cell.__name__}, which its kernel scans, is no registered cell")
    return min(cells), kernel.name


def unpinned(config: Mapping[str, Any]) -> dict[str, Any]:
    """Write a config's cell and kernel apart, as every record and checkpoint has them.

    Args:
        config: resolved, with nodes ``cell`` and ``kernel``.

    Raises:
        UserError: another kernel was asked for.
    """
    from seqlab.plugins.config import node

    plain = dict(config)
    name = plain["cell"]["name"]
    if not is_pinned(name):
        return plain
    cell, kernel = pinned_parts(name)
    asked = plain["kernel"]["name"]
    if asked not in ("auto", kernel):
        raise UserError(
            f"cell={name} is cell={cell} with kernel={kernel}; for kernel={asked} say cell={cell} kernel={asked}"
        )
    plain["cell"] = {**plain["cell"], "name": cell}
    if asked == "auto":
        plain["kernel"] = OmegaConf.to_container(node("kernel", kernel))
    return plain
