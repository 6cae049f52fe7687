"""The folder that an export leaves: written beside its place, compared with the run, and only then put there."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from seqlab._version import __version__
from seqlab.contracts import InputSpec, UserError
from seqlab.contracts.task import label_names
from seqlab.errors import one_line
from seqlab.export.card import model_card
from seqlab.export.compare import FLOOR, MULTIPLE, Comparison, compare_outputs
from seqlab.export.formats import FORMATS, INPUTS, Format
from seqlab.inference.loading import Trained, load
from seqlab.io import atomic
from seqlab.io.safe_io import check_within, escape_control
from seqlab.plugins.exports import standalone_encoder
from seqlab.runs import run_folder
from seqlab.runs.card import read_card

FORMAT = 1
"""Version of ``export.json``."""
DESCRIPTION, LABELS, CARD, EXAMPLE = "export.json", "labels.json", "README.md", "predict.py"


def export(run_dir: Path, name: str, out: Path | None = None) -> tuple[Path, Comparison]:
    """Export a run's model, with what has to travel with it.

    Args:
        run_dir: the folder of a finished run.
        name: one of :data:`.formats.FORMATS`.
        out: the folder to make; ``export/<name>`` in the run's folder if not given.

    Returns:
        The folder, and what the comparison with the run gave.

    Raises:
        UserError: the run cannot be loaded or exported, the file differs from the run, or the folder is there; then
            nothing is left.
    """
    kind = FORMATS[name]
    kind.require()
    out = check_within(run_dir, run_dir / "export" / name) if out is None else out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already; choose another --out, or remove it")
    trained = load(run_dir)
    results = run_folder.read_json(run_dir / run_folder.RESULTS)
    inputs = _inputs(trained, read_card(run_dir))
    with atomic.reported_write_errors(out):
        made = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            found = _write(place, name, kind, trained, inputs, results)
            _settle(place, out)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            with suppress(OSError):  # another export may have put something there
                for folder in made:
                    folder.rmdir()
            raise
    return out, found


def _inputs(trained: Trained, card: Mapping[str, Any]) -> InputSpec:
    symbols = None if trained.preprocessor is None else trained.preprocessor.symbols
    return InputSpec(card["inputs"]["kind"], card["inputs"]["size"], symbols)


def _write(
    place: Path, name: str, kind: Format, trained: Trained, inputs: InputSpec, results: Mapping[str, Any]
) -> Comparison:
    kind.write(trained, inputs, place / kind.file)
    found = compare_outputs(
        trained.model, inputs, kind.read(trained, place / kind.file), same_program=not kind.runs_alone
    )
    labels = label_names(trained.task)
    if labels is not None:
        atomic.write_json(place / LABELS, list(labels))
    if trained.preprocessor is not None:
        state = {"plugin": _without_folders(trained.nodes["preprocessing"]), "state": trained.preprocessor.state_dict()}
        atomic.write_json(place / run_folder.PREPROCESSOR, state)
        for file, source in (standalone_encoder(trained.preprocessor) or {}).items():
            atomic.write_text(place / file, source)
    if (place / "encode.py").exists() and kind.file == "model.onnx" and labels is not None and _is_softmax(trained):
        atomic.write_text(place / EXAMPLE, Path(__file__).with_name("example.py").read_text("utf-8"))
    description = _description(name, kind, trained, inputs, results, found)
    atomic.write_json(place / DESCRIPTION, description)
    names = sorted(path.name for path in place.iterdir())
    try:
        card = model_card(description, results, kind, names)
    except (AttributeError, TypeError, KeyError, ValueError) as error:  # of what is no record of a run
        said = f"{type(error).__name__}: {one_line(error)[:200]}"
        raise UserError(f"{trained.folder / run_folder.RESULTS} is not as a run writes it: {said}") from error
    atomic.write_text(place / CARD, escape_control(card))
    return found


def _is_softmax(trained: Trained) -> bool:
    """Whether the task's probabilities are the softmax of its outputs, as :data:`EXAMPLE` has it."""
    outputs = torch.linspace(-2, 3, trained.task.outputs).unsqueeze(0)
    if trained.task.per_step or label_names(trained.task) is None:
        return False
    (answers,) = trained.task.decode(outputs, trained.task.outputs)
    found = torch.tensor([float(answer["probability"]) for answer in answers])
    expected = outputs[0].softmax(0).sort(descending=True).values
    return found.shape == expected.shape and bool(torch.allclose(found, expected, atol=1e-6))


def _description(
    name: str, kind: Format, trained: Trained, inputs: InputSpec, results: Mapping[str, Any], found: Comparison
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "exported_as": name,
        "seqlab": __version__,
        "torch": str(torch.__version__),
        "file": kind.file,
        "takes": dict(zip(INPUTS, _axes(inputs), strict=True)),
        "gives": {"outputs": ["batch", *(["time"] if trained.task.per_step else []), trained.task.outputs]},
        "input_size": inputs.size,
        "longest": trained.longest,
        "title": results.get("title"),
        "plugins": {role: _without_folders(node) for role, node in trained.nodes.items()},
        "compared": {
            "batches": found.batches,
            "largest_difference": found.difference,
            "largest_output": found.scale,
            "floor": FLOOR,
            "multiple": MULTIPLE,
            "lengths": [
                {
                    "steps": row.steps,
                    "difference": row.difference,
                    "rounding": row.noise,
                    "allowed": row.allowed,
                    "largest_output": row.scale,
                }
                for row in found.rows
            ],
        },
    }


def _without_folders(node: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Keep of an absolute path its last part: the rest tells of the machine."""

    def shown(value: Any) -> Any:
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return None if node is None else {key: shown(value) for key, value in node.items()}


def _axes(inputs: InputSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    lengths = {"type": "int64", "axes": ["batch"]}
    if inputs.kind == "tokens":
        return {"type": "int64", "axes": ["batch", "time"]}, lengths
    return {"type": "float32", "axes": ["batch", "time", inputs.size]}, lengths


def _settle(place: Path, out: Path) -> None:
    """Put the finished folder into its place, on the disk."""
    for path in place.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    place.chmod(0o755)
    atomic.sync(place)
    place.rename(out)
    atomic.sync(out.parent)
