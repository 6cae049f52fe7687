"""Lengths of encoded examples: cut, counted, and put into words."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqlab.contracts import Ragged


def truncate(inputs: Ragged, limit: int) -> Ragged:
    """Keep the first ``limit`` steps of each sequence."""
    position = torch.arange(len(inputs.values)) - inputs.starts.repeat_interleave(inputs.lengths)
    return Ragged(inputs.values[position < limit], inputs.lengths.clamp(max=limit))


def length_statistics(lengths: Tensor) -> dict[str, Any]:
    """Describe the lengths of a split: how many examples and steps, and the quantiles of the lengths."""
    quantiles = torch.quantile(lengths.double(), torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0], dtype=torch.float64))
    names = ("shortest", "5 %", "median", "95 %", "longest")
    return {
        "examples": len(lengths),
        "steps": int(lengths.sum()),
        "length": {name: round(value) for name, value in zip(names, quantiles.tolist(), strict=True)},
    }


def describe(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Put the statistics into a line for each split."""
    lines = []
    for split, row in statistics.items():
        if "tokens" in row:
            share = f"{row['share_unknown']:.2%}"
            lines.append(f"{split}: {row['tokens']:,} tokens of {row['bytes']:,} bytes; unknown {share}")
            continue
        length = row["length"]
        line = f"{split}: {row['examples']:,} examples, {row['steps']:,} steps; length " + ", ".join(
            f"{name} {value}" for name, value in length.items()
        )
        line += f"; truncated {row['share_truncated']:.1%}"
        if "share_unknown" in row:
            line += f"; unknown {row['share_unknown']:.2%}"
        if "dropped" in row:
            line += "; dropped " + ", ".join(f"{count:,} ({reason})" for reason, count in row["dropped"].items())
        lines.append(line)
    return lines
