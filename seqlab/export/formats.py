"""Export formats: torch.export, ONNX, safetensors, state dict."""

import contextlib
import copy
import io
import logging
import re
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import torch
from torch import Tensor, nn

from seqlab.contracts import Batch, InputSpec, Model, UserError
from seqlab.errors import one_line
from seqlab.export.tracing import Form, insert_routines, traceable
from seqlab.io.atomic import write_atomically
from seqlab.plugins.exports import exported_model
from seqlab.runs import run_folder

if TYPE_CHECKING:
    from seqlab.contracts import InputSpec
    from seqlab.inference import Trained


INPUTS = ("inputs", "lengths")
"""Input names of an exported program, in order."""
_WEIGHTS = "--format safetensors and --format state-dict export its weights"
_TORCH = Path(torch.__file__).parent
_EXAMPLE = (3, 11)  # rows and steps of the traced example; both axes stay symbolic


@final
class PaddedModel(nn.Module):
    """A model as a function of padded inputs and lengths; every sequence begins anew."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Compute the outputs."""
        outputs, _ = self.model(Batch(inputs, lengths, torch.empty(0)))
        return outputs  # type: ignore[no-any-return]  # modules return anything


def random_inputs(inputs: InputSpec, batch: int, time: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw inputs with 1 to ``time`` steps a row (the first has ``time``) and random values in the padding."""
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
    """
    traced_model = exported_model(model)
    if isinstance(traced_model, str):
        raise UserError(f"{name} cannot be exported to run without seqlab: {traced_model}; {_WEIGHTS}")
    batch, time = torch.export.Dim("batch", min=1), torch.export.Dim("time", min=1)
    carries, model.carries_state = model.carries_state, False
    try:
        with traceable(model, form), torch.no_grad(), quiet():
            traced = torch.export.export(
                PaddedModel(traced_model).eval(),
                random_inputs(inputs, *_EXAMPLE, seed=0),
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
    insert_routines(traced)
    return traced


def _reason(error: Exception) -> str:
    """Summarise a tracing error with the line of the model; torch's own text names its internals."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not Path(frame.filename).is_relative_to(_TORCH)]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    text = str(error).strip()
    if "data-dependent" in text.lower() or "data dependent" in text.lower():
        return f"its operations depend on input values ({place})"
    if bound := re.search(r"Suggested fixes:\s+(\w+ = .*)", text):
        return f"its operations depend on the size of batch or time ({bound[1]})"
    said = one_line(text.partition("\n")[0])
    return f"{type(error).__name__} at {place}: {said if len(said) <= 160 else said[:157] + '...'}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings and printed graphs of torch's tracer."""
    before, nowhere = logging.root.manager.disable, io.StringIO()
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


Run = Callable[[Tensor, Tensor], Tensor]
"""Function of padded inputs and lengths that returns outputs."""


class Format(ABC):
    """Export format."""

    file: ClassVar[str]
    """Name of the model file."""
    runs_alone: ClassVar[bool] = True
    """Whether the file holds the computation, not only weights."""
    call: ClassVar[str]
    """Python example, a template with ``inputs``, ``lengths`` and ``dtype``."""

    def require(self) -> None:  # noqa: B027  # most formats need nothing more
        """Check that what it needs is installed."""

    @abstractmethod
    def write(self, trained: "Trained", inputs: "InputSpec", path: Path) -> None:
        """Write the file."""

    @abstractmethod
    def read(self, trained: "Trained", path: Path) -> Run:
        """Load the file as a function."""


@final
class TorchExport(Format):
    """Program of ``torch.export``, loaded and run by PyTorch."""

    file = "model.pt2"
    call = """\
import torch

model = torch.export.load("model.pt2").module()
with torch.inference_mode():
    outputs = model(torch.tensor({inputs}), torch.tensor({lengths}))
"""

    def write(self, trained: "Trained", inputs: "InputSpec", path: Path) -> None:
        """Trace with torch's recurrent operators, or ``scan`` for cells without one."""
        traced = program(trained.model, inputs, "torch", _name(trained))
        _forget_sources(traced.graph_module)
        torch.export.save(traced, path)

    def read(self, trained: "Trained", path: Path) -> Run:
        """Load it."""
        module = torch.export.load(path).module()
        return lambda inputs, lengths: module(inputs, lengths)


@final
class Onnx(Format):
    """ONNX model, run by onnxruntime without torch."""

    file = "model.onnx"
    call = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
inputs, lengths = np.array({inputs}, np.{dtype}), np.array({lengths}, np.int64)
(outputs,) = session.run(None, {{"inputs": inputs, "lengths": lengths}})
"""

    def require(self) -> None:
        """Check that onnx, onnxscript and onnxruntime are installed."""
        for package in ("onnx", "onnxscript", "onnxruntime"):
            try:
                __import__(package)
            except ImportError as error:
                raise UserError(
                    f'--format onnx needs {package}, which is not installed: pip install "seqlab[export]"'
                ) from error

    def write(self, trained: "Trained", inputs: "InputSpec", path: Path) -> None:
        """Trace with ONNX's recurrent nodes, or ``Scan`` for cells without one."""
        traced = program(trained.model, inputs, "onnx", _name(trained))
        axes = {0: "batch", 1: "time"}
        try:
            with quiet():
                made = torch.onnx.export(
                    traced,
                    dynamo=True,
                    external_data=False,
                    input_names=list(INPUTS),
                    output_names=["outputs"],
                    dynamic_shapes=(axes, {0: "batch"}),
                    verbose=False,
                )
        except Exception as error:  # the exporter raises errors of many types
            raise UserError(
                f"{_name(trained)} cannot be written as ONNX: {type(error).__name__}: {one_line(error)[:200]};"
                " try --format torch-export, safetensors or state-dict"
            ) from error
        assert made is not None
        _forget_metadata(made.model)
        made.save(path, external_data=False)

    def read(self, trained: "Trained", path: Path) -> Run:
        """Load with onnxruntime, on the CPU."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

        def run(inputs: Tensor, lengths: Tensor) -> Tensor:
            (outputs,) = session.run(None, dict(zip(INPUTS, (inputs.numpy(), lengths.numpy()), strict=True)))
            return torch.from_numpy(outputs)

        return run


class Weights(Format, ABC):
    """Parameters and buffers by name."""

    runs_alone = False

    def read(self, trained: "Trained", path: Path) -> Run:
        """Load into a copy of the model whose values were set to zero."""
        model = copy.deepcopy(trained.model)
        with torch.no_grad():
            for value in model.state_dict().values():
                value.zero_()
        model.load_state_dict(self.load(path))
        return PaddedModel(model.eval())

    @abstractmethod
    def load(self, path: Path) -> dict[str, Tensor]:
        """Read the tensors."""


@final
class Safetensors(Weights):
    """Weights as safetensors."""

    file = "model.safetensors"
    call = """\
from safetensors.torch import load_file

weights = load_file("model.safetensors")
"""

    def write(self, trained: "Trained", inputs: "InputSpec", path: Path) -> None:
        """Write them."""
        run_folder.write_weights(path, trained.model.state_dict())

    def load(self, path: Path) -> dict[str, Tensor]:
        """Read them."""
        return run_folder.read_weights(path)


@final
class StateDict(Weights):
    """Weights as a state dict that loads with ``weights_only=True``."""

    file = "model.pt"
    call = """\
import torch

weights = torch.load("model.pt", weights_only=True)
"""

    def write(self, trained: "Trained", inputs: "InputSpec", path: Path) -> None:
        """Write them."""
        weights = {name: value.detach().cpu() for name, value in trained.model.state_dict().items()}
        write_atomically(path, lambda file: torch.save(weights, file))

    def load(self, path: Path) -> dict[str, Tensor]:
        """Read them."""
        weights: dict[str, Tensor] = torch.load(path, weights_only=True)
        return weights


FORMATS: dict[str, Format] = {
    "torch-export": TorchExport(),
    "onnx": Onnx(),
    "safetensors": Safetensors(),
    "state-dict": StateDict(),
}


def _name(trained: "Trained") -> str:
    """Return the model's plugins as overrides, such as ``model=recurrent, cell=gru``."""
    kinds = ("model", "cell") if trained.model.uses_cell else ("model",)
    return ", ".join(f"{kind}={trained.nodes[kind]['name']}" for kind in kinds if trained.nodes.get(kind))


def _forget_sources(module: nn.Module) -> None:
    """Remove paths of source files from a program and its submodules."""
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)


def _forget_metadata(model: Any) -> None:
    """Remove the metadata of an ONNX model, which name source files."""
    import onnx_ir

    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
    for function in model.functions.values():
        for node in onnx_ir.traversal.RecursiveGraphIterator(function.graph):
            node.metadata_props.clear()
