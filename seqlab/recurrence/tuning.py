"""What ``bench --tune`` measured on this machine: which kernel is the fastest, by cell and shape."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqlab.cache import place

FORMAT = 1
FAR = 4.0
"""Doublings of a shape's sizes, added up, beyond which a measurement says nothing of it."""


class Entry(NamedTuple):
    """One measurement: a training step of one cell and shape by each kernel.

    Attributes:
        cell: the cell's class name.
        batch: rows.
        time: steps of the longest.
        input: features of a step.
        hidden: features of the state.
        filled: the part of all steps that is not padding.
        speeds: how many times as fast as the slowest, by kernel.
    """

    cell: str
    batch: int
    time: int
    input: int
    hidden: int
    filled: float
    speeds: Mapping[str, float]


def table_path(device: torch.device) -> Path:
    """Say where this machine's table is kept: one for each device, version of torch and number of threads.

    Raises:
        OSError: the cache folder cannot be made.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.node()} {platform.processor()}"
    return place("tuning", [FORMAT, device.type, name, torch.__version__, torch.get_num_threads()], ".json")


def write(device: torch.device, entries: Sequence[Entry]) -> Path:
    """Keep a table, for this process too."""
    path = table_path(device)
    path.write_text(json.dumps([entry._asdict() for entry in entries], indent=1), "utf-8")
    _read.cache_clear()
    return path


@cache
def _read(device: torch.device, threads: int) -> tuple[Entry, ...]:  # noqa: ARG001  # a key of the cache
    try:
        return tuple(Entry(**entry) for entry in json.loads(table_path(device).read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # none, or one that is damaged: the built-in expectations then serve
        return ()


def speeds(cell: str, hidden: int, x: Tensor, lengths: Tensor | None) -> Mapping[str, float]:
    """Find how fast each kernel was on the measured shape that is nearest; nothing where none is near.

    Args:
        cell: the cell's class name.
        hidden: features of its state.
        x: ``[time, batch, input]``.
        lengths: valid steps of each row.
    """
    if torch.compiler.is_compiling():
        return {}
    entries = [entry for entry in _read(x.device, torch.get_num_threads()) if entry.cell == cell]
    if not entries or not x.numel():
        return {}
    time, batch, size = x.shape
    filled = 1.0 if lengths is None else max(1, int(lengths.sum())) / (time * batch)

    def distance(entry: Entry) -> float:
        sizes = ((entry.batch, batch), (entry.time, time), (entry.input, size), (entry.hidden, hidden))
        away = sum(abs(math.log2(a / b)) * weight for (a, b), weight in zip(sizes, (1, 0.5, 0.5, 1), strict=True))
        return away + abs(math.log2(entry.filled / filled))

    nearest = min(entries, key=distance)
    return nearest.speeds if distance(nearest) <= FAR else {}
