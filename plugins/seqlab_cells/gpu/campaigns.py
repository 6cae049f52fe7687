"""What campaigns on GPUs found: how fast the kernels are against cuDNN, on which ``kernel=auto`` goes.

``benchmarks/gpu_campaign.py`` writes a ``record.json`` for the GPU it ran on; laid into the folder ``campaigns`` beside
this file, under any name, it is read here. Where an architecture has none, ``auto`` takes no kernel of ours.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).with_name("campaigns")
SAME = ("tail", "dtype", "directions", "ragged")
"""What a point must share with a layer to speak for it."""
NEAR = ("batch", "time", "hidden")
"""What may differ, the less the better."""
FAR = 8.0
"""Doublings of these sizes, added up, beyond which a point says nothing."""


def architecture(device: torch.device) -> str:
    """Name a CUDA device's architecture, as ``sm_90``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@cache
def points(name: str, folder: Path = FOLDER) -> tuple[dict[str, Any], ...]:
    """Read what was recorded for an architecture; empty where nothing was."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["architecture"] == name:
            found += record["points"]
    return tuple(found)


def speed(name: str, layer: dict[str, Any], folder: Path = FOLDER) -> float | None:
    """Say how many times as fast as cuDNN a training step was at the nearest point.

    Args:
        name: the architecture.
        layer: ``tail``, ``dtype`` (a word), ``directions``, ``ragged``, ``batch``, ``time``, ``hidden``.
        folder: where the records are.

    Returns:
        The ratio, or ``None`` where no point of this cell, type of number and form is near.
    """
    alike = [point for point in points(name, folder) if all(point[key] == layer[key] for key in SAME)]

    def far(point: dict[str, Any]) -> float:
        return sum(abs(math.log2(max(1, point[key]) / max(1, layer[key]))) for key in NEAR)

    near = [point for point in alike if far(point) <= FAR]
    return float(min(near, key=far)["speed"]) if near else None
