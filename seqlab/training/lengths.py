"""Lengths of encoded examples: cut, counted, and put into words."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqlab.contracts import Ragged


def truncate(inputs: Ragged, limit: int | None) -> Ragged:
    """Keep the first ``limit`` steps of each sequence; ``None`` keeps all."""
    if limit is None or not bool((inputs.lengths > limit).any()):
        return inputs
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


def measure(inputs: Ragged, limit: int | None, unknown_id: int | None) -> dict[str, Any]:
    """Describe a split before it is cut: lengths, the share that ``limit`` cuts, the share of unknown tokens.

    Args:
        inputs: all sequences of the split, whole.
        limit: steps of a sequence that are read, at most; ``None`` reads all.
        unknown_id: the token id of what training did not show; ``None`` where there is none.
    """
    truncated = 0.0 if limit is None else (inputs.lengths > limit).float().mean().item()
    facts = length_statistics(inputs.lengths) | {"share_truncated": truncated}
    if unknown_id is not None:
        facts["share_unknown"] = (inputs.values == unknown_id).float().mean().item() if len(inputs.values) else 0.0
    return facts


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
