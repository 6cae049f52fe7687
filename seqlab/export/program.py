"""From a model to a program that torch.export and ONNX can write."""

import contextlib
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from seqlab.contracts import Batch, InputSpec, Model, UserError
from seqlab.discovery.registry import one_line
from seqlab.recurrence.exported import Form, put_routines_in, traceable

INPUTS = ("inputs", "lengths")
"""Names of what an exported program takes, in this order."""
_WEIGHTS = "--format safetensors and --format state-dict export its weights"
_TORCH = Path(torch.__file__).parent
_EXAMPLE = (3, 11)  # rows and steps that are traced; neither is kept


@final
class Padded(nn.Module):
    """A model as a function of padded inputs and lengths; every sequence begins anew.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Compute the outputs."""
        outputs, _ = self.model(Batch(inputs, lengths, torch.empty(0)))
        return outputs  # type: ignore[no-any-return]  # modules return anything


def draw(inputs: InputSpec, batch: int, time: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw padded inputs whose rows have 1 to ``time`` steps, the first one all; the padding holds values, too."""
    source = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, time + 1, (batch,), generator=source)
    lengths[0] = time
    if inputs.kind == "tokens":
        return torch.randint(min(1, inputs.size - 1), inputs.size, (batch, time), generator=source), lengths
    return torch.randn(batch, time, inputs.size, generator=source), lengths


def program(model: Model, inputs: InputSpec, form: Form, name: str) -> torch.export.ExportedProgram:
    """Trace a model for any number of rows and steps.

    Args:
        model: in evaluation mode; it is as it was afterwards.
        inputs: what an input step is.
        form: what cells with a routine of their own become.
        name: what an error calls the model.

    Raises:
        UserError: it cannot be traced, or an option of it is set that no exported file can have.
    """
    if fault := model.unexportable():
        raise UserError(f"{name} cannot be exported to run without seqlab: {fault}; {_WEIGHTS}")
    batch, time = torch.export.Dim("batch", min=1), torch.export.Dim("time", min=1)
    carries, model.carries_state = model.carries_state, False
    try:
        with traceable(model, form), torch.no_grad(), quiet():
            traced = torch.export.export(
                Padded(model).eval(),
                draw(inputs, *_EXAMPLE, seed=0),
                dynamic_shapes=({0: batch, 1: time}, {0: batch}),
                strict=False,
            )
    except UserError:
        raise
    except Exception as error:  # torch.export raises errors of many types
        raise UserError(
            f"{name} cannot be traced for any number of rows and steps: {_reason(error)}; {_WEIGHTS}"
        ) from error
    finally:
        model.carries_state = carries
    put_routines_in(traced)
    return traced


def _reason(error: Exception) -> str:
    """Say why torch.export cannot trace, and at which line of the model: torch's own text is of its internals."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not Path(frame.filename).is_relative_to(_TORCH)]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    text = str(error).strip()
    if "data-dependent" in text.lower() or "data dependent" in text.lower():
        return f"which operations it runs depends on the values that it reads ({place})"
    if bound := re.search(r"Suggested fixes:\s+(\w+ = .*)", text):
        return f"it does not compute the same for every size of the axes batch and time ({bound[1]})"
    said = one_line(text.partition("\n")[0])
    return f"{type(error).__name__} at {place}: {said if len(said) <= 160 else said[:157] + '...'}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what torch says while it traces: warnings of its own code, and graphs of what it could not trace."""
    before, nowhere = logging.root.manager.disable, io.StringIO()
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
