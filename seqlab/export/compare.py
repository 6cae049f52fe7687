"""Whether an exported file computes what the run does."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from seqlab.contracts import UserError
from seqlab.export.program import Padded, draw

if TYPE_CHECKING:
    from seqlab.contracts import InputSpec, Model
    from seqlab.export.formats import Run

LENGTHS, BATCHES = (1, 7, 500), (1, 3, 64)
"""Steps of the longest row, and rows, of the batches that are compared; all pairs of them."""
TOLERANCE = 1e-5
"""Largest difference of an output; where outputs are larger than 1, as a share of the largest of them."""


@final
@dataclass(frozen=True)
class Compared:
    """What came of it.

    Attributes:
        batches: how many were compared.
        difference: the largest of an output.
        scale: the largest output.
    """

    batches: int
    difference: float
    scale: float


def compared(model: "Model", inputs: "InputSpec", run: "Run") -> Compared:
    """Compare outputs on batches of random inputs, at all lengths and batch sizes.

    Args:
        model: the run's, in evaluation mode.
        inputs: what an input step is.
        run: the file that was read back.

    Raises:
        UserError: they differ, or the file cannot be run.
    """
    worst = scale = 0.0
    pairs = [(batch, time) for time in LENGTHS for batch in BATCHES]
    for seed, (batch, time) in enumerate(pairs):
        given = draw(inputs, batch, time, seed)
        where = f"{batch} rows of up to {time} steps"
        expected = _seeded(Padded(model), given, seed)
        try:
            found = _seeded(run, given, seed)
        except Exception as error:  # whatever runs the file raises its own
            raise UserError(f"the exported file fails on {where}: {type(error).__name__}: {error!s:.200}") from error
        valid = _valid(expected, given[1])
        if found.shape != expected.shape:
            raise UserError(f"the exported file gives {list(found.shape)} for {where}, the run {list(expected.shape)}")
        gap = (found - expected).abs()[valid]
        largest = float(gap.nan_to_num(torch.inf).max()) if torch.isfinite(expected[valid]).all() else torch.inf
        size = float(expected[valid].abs().max())
        if not largest <= TOLERANCE * max(1.0, size):
            raise UserError(
                f"the exported file differs from the run by {largest:.2g} on {where}, where outputs are up to"
                f" {size:.2g}; at most {TOLERANCE:g} is allowed, so nothing was written"
            )
        worst, scale = max(worst, largest), max(scale, size)
    return Compared(len(pairs), worst, scale)


def _seeded(run: "Run", given: tuple[torch.Tensor, torch.Tensor], seed: int) -> torch.Tensor:
    """Run with the same random numbers, if there are any."""
    with torch.random.fork_rng([]), torch.inference_mode():
        torch.manual_seed(seed)
        return run(given[0].clone(), given[1].clone())


def _valid(outputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mark the outputs that mean something: of a sequence all, of a step those within its row's length."""
    if outputs.dim() < 3:
        return torch.ones_like(outputs, dtype=torch.bool)
    there = torch.arange(outputs.shape[1]) < lengths.unsqueeze(1)
    return there.unsqueeze(2).expand_as(outputs)
