"""Comparison of an exported file with the run, within the run's own rounding error."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from seqlab.errors import UserError, reporting_foreign
from seqlab.export.formats import PaddedModel, random_inputs
from seqlab.training.verification import MULTIPLE, in_float64

if TYPE_CHECKING:
    from seqlab.contracts import InputSpec, Model
    from seqlab.export.formats import Run

LENGTHS, BATCHES = (1, 7, 500), (1, 3, 64)
"""Maximum steps, and rows, of the compared batches; all pairs are compared."""
FLOOR = 1e-5
"""Difference that is always allowed, as a share of the largest output of the same length."""
_TELLING = 0.01  # a bound above this share of the largest output at the shortest length would accept a wrong file


@final
@dataclass(frozen=True)
class LengthComparison:
    """Comparison of the batches of one length.

    Attributes:
        steps: of the longest row.
        difference: the largest of an output.
        largest_output: of all batches.
        rounding: the run's largest difference from itself in float64; ``None`` where that cannot be computed.
        allowed: the bound on ``difference``.
    """

    steps: int
    difference: float
    rounding: float | None
    allowed: float
    largest_output: float


@final
@dataclass(frozen=True)
class Comparison:
    """Result of a comparison."""

    batches: int
    rows: tuple[LengthComparison, ...]

    @property
    def difference(self) -> float:
        """Return the largest difference of an output."""
        return max(row.difference for row in self.rows)

    @property
    def scale(self) -> float:
        """Return the largest output."""
        return max(row.largest_output for row in self.rows)


def compare_outputs(model: "Model", inputs: "InputSpec", run: "Run", *, same_program: bool = False) -> Comparison:
    r"""Compare outputs on batches of random inputs, at all lengths and batch sizes.

    With :math:`y` the run's outputs at one length, :math:`y_{64}` those of the reference loop in float64, and
    :math:`f` those of the file, the file is accepted if

    .. math:: \max |f - y| \le \max(10^{-5} \max |y|, 16 \max |y - y_{64}|).

    Args:
        model: the run's, in evaluation mode.
        inputs: what an input step is.
        run: the file that was read back.
        same_program: whether ``run`` is a copy of the model with the file's weights, so that nothing is rounded
            differently; then the first bound alone holds.
    """
    wide = None if same_program else _widened(model)
    return Comparison(len(LENGTHS) * len(BATCHES), tuple(_row(model, wide, inputs, run, time) for time in LENGTHS))


def _row(model: "Model", wide: "Run | None", inputs: "InputSpec", run: "Run", time: int) -> LengthComparison:
    """Compare the batches of one length."""
    found = [_batch(model, wide, inputs, run, (batch, time)) for batch in BATCHES]
    difference, scale = max(each[0] for each in found), max(each[1] for each in found)
    noises = [each[2] for each in found if each[2] is not None]
    noise = max(noises) if len(noises) == len(found) else None
    row = LengthComparison(time, difference, noise, max(FLOOR * scale, MULTIPLE * (noise or 0.0)), scale)
    where = f"batches of up to {time} steps, where outputs are up to {scale:.2g}"
    if time == min(LENGTHS) and row.allowed > _TELLING * scale:
        raise UserError(
            f"the run's float32 outputs differ from float64 by {noise:.2g} on {where}: too much to verify the exported"
            " file; nothing was written"
        )
    if not difference <= row.allowed:
        measured = "" if noise is None else f" and {MULTIPLE} times the run's own rounding error of {noise:.2g}"
        raise UserError(
            f"the exported file differs from the run by {difference:.2g} on {where}; at most {row.allowed:.2g} is"
            f" allowed (the larger of {FLOOR:g} of the largest output{measured}), so nothing was written"
        )
    return row


def _batch(
    model: "Model", wide: "Run | None", inputs: "InputSpec", run: "Run", shape: tuple[int, int]
) -> tuple[float, float, float | None]:
    """Return the largest difference, the largest output and the largest rounding error of one batch."""
    seed = LENGTHS.index(shape[1]) * len(BATCHES) + BATCHES.index(shape[0])
    given = random_inputs(inputs, *shape, seed)
    where = f"{shape[0]} rows of up to {shape[1]} steps"
    expected = _seeded(PaddedModel(model), given, seed)
    with reporting_foreign(f"the exported file fails on {where}"):
        found = _seeded(run, given, seed)
    if found.shape != expected.shape:
        raise UserError(f"the exported file gives {list(found.shape)} for {where}, the run {list(expected.shape)}")
    valid = _valid(expected, given[1])
    if not torch.isfinite(expected[valid]).all():
        raise UserError(f"the run's outputs are not finite on {where}, so the exported file cannot be verified")
    noise = None if wide is None else _noise(expected, _exact(wide, given, seed), valid)
    return _largest(found - expected, valid), _largest(expected, valid), noise


def _widened(model: "Model") -> "Run | None":
    """Return the model in float64 by the reference loop; ``None`` where it cannot be copied."""
    try:
        return PaddedModel(in_float64(model))
    except Exception:  # a model may hold what cannot be copied
        return None


def _exact(wide: "Run", given: tuple[Tensor, Tensor], seed: int) -> Tensor | None:
    """Run in float64; ``None`` for a model that fixes its own dtype."""
    inputs = given[0].double() if given[0].is_floating_point() else given[0]
    try:
        return _seeded(wide, (inputs, given[1]), seed)
    except Exception:  # a model that fixes its dtype may raise any type
        return None


def _noise(expected: Tensor, exact: Tensor | None, valid: Tensor) -> float | None:
    if exact is None or exact.dtype != torch.float64 or exact.shape != expected.shape:
        return None
    return _largest(expected.double() - exact, valid)


def _largest(values: Tensor, valid: Tensor) -> float:
    return float(values.abs()[valid].nan_to_num(torch.inf).max())


def _seeded(run: "Run | Any", given: tuple[Tensor, Tensor], seed: int) -> Tensor:
    """Run with a fixed random seed."""
    with torch.random.fork_rng([]), torch.inference_mode():
        torch.manual_seed(seed)
        outputs: Tensor = run(given[0].clone(), given[1].clone())
        return outputs


def _valid(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return a mask of the outputs within each row's length; of outputs per sequence all are valid."""
    if outputs.dim() < 3:
        return torch.ones_like(outputs, dtype=torch.bool)
    there = torch.arange(outputs.shape[1]) < lengths.unsqueeze(1)
    return there.unsqueeze(2).expand_as(outputs)
