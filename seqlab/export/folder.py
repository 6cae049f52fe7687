"""Folder of an export, with its model card."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from seqlab._version import __version__
from seqlab.contracts import InputSpec, UserError
from seqlab.contracts.task import label_names
from seqlab.errors import one_line
from seqlab.export.compare import FLOOR, Comparison, compare_outputs
from seqlab.export.formats import FORMATS, INPUTS, Format
from seqlab.inference import Trained, load
from seqlab.io import atomic
from seqlab.io.safe_io import check_within, escape_control
from seqlab.plugins.exports import standalone_encoder
from seqlab.runs import run_folder
from seqlab.runs.card import read_card
from seqlab.training.verification import MULTIPLE

if TYPE_CHECKING:
    from seqlab.export.formats import Format


_FILES = {
    "export.json": "inputs and outputs, plugins with their options, comparison with the run",
    "labels.json": "labels, in the order of the outputs",
    "preprocessor.json": "vocabulary",
    "encode.py": "encodes texts as token ids, in plain Python",
    "predict.py": "classifies texts with onnxruntime: `python predict.py TEXT...`, or `--help`",
    "table_files.py": "reads and writes tables for `predict.py`",
}


def model_card(description: Mapping[str, Any], results: Mapping[str, Any], kind: "Format", files: Sequence[str]) -> str:
    """Write the card as Markdown."""
    purposes = {**_FILES, kind.file: "the model"}
    parts = [
        f"# {results.get('title', 'a model')}",
        f"Exported by seqlab {description['seqlab']} as {description['exported_as']}: `{kind.file}`.",
        "## Training data",
        _trained_on(description, results),
        "## Results",
        _scores(results),
        "## Usage",
        _how(description, kind, files),
        "## Comparison with the run",
        _compared(description["compared"]),
        "## Files",
        "\n".join(f"- `{name}`: {purposes.get(name, 'a step of `encode.py`')}" for name in files),
    ]
    return "\n\n".join(parts) + "\n"


def _trained_on(description: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    lines = []
    for role in ("task", "preprocessing", "model", "cell"):
        node = description["plugins"].get(role)
        if node:
            options = ", ".join(f"{key}={value}" for key, value in node.items() if key != "name" and value is not None)
            lines.append(f"- {role}: `{node['name']}`" + (f" ({options})" if options else ""))
    for split, row in (results.get("data") or {}).items():
        longest = (row.get("length") or {}).get("longest")
        steps = f", up to {longest:,} steps" if longest else ""
        lines.append(f"- {split}: {row.get('examples', 0):,} examples{steps}")
    versions = results.get("versions") or {}
    lines.append(f"- seqlab {versions.get('seqlab', '?')}, torch {versions.get('torch', '?')}")
    return "\n".join(lines)


def _scores(results: Mapping[str, Any]) -> str:
    """Return each test metric with its input-independent baseline."""
    metrics = (results.get("metrics") or {}).get("test") or {}
    chance = (results.get("chance") or {}).get("test") or {}
    rows = [f"| {name} | {_number(value)} | {_number(chance.get(name))} |" for name, value in metrics.items()]
    verdict = f"Test split, scored once with the weights selected by validation: {results.get('verdict')}."
    return "\n".join([verdict, "", "| metric | test | baseline |", "|---|---|---|", *rows])


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "not known"


def _how(description: Mapping[str, Any], kind: "Format", files: Sequence[str]) -> str:
    takes = description["takes"]["inputs"]
    if not kind.runs_alone:
        return (
            "The file holds only the weights, by name. The model is built from the run folder by seqlab.\n\n"
            f"```python\n{kind.call}```"
        )
    tokens = takes["type"] == "int64"
    step = "token ids, 0 in the padding" if tokens else "features"
    lines = [
        f"- `inputs`: {takes['type']} `{takes['axes']}`, {step}",
        "- `lengths`: int64 `['batch']`, valid steps of each row, from 1 to `time`",
        f"- `outputs`: float32 `{description['gives']['outputs']}`, before softmax",
    ]
    if "time" in description["gives"]["outputs"]:
        lines.append("- outputs beyond a row's length are undefined; every row starts from the initial state")
    if description["longest"]:
        lines.append(f"- training read at most the first {description['longest']:,} steps of a sequence")
    if reason := description.get("no_predict"):
        lines.append(f"- there is no `predict.py`: {reason}")
    if tokens and "encode.py" not in files:
        lines.append("- token ids come from the preprocessing named above, with `preprocessor.json` as its state")
    example = {"inputs": "[[2, 3, 2], [3, 0, 0]]", "lengths": "[3, 1]"}
    if not tokens:
        size = description["input_size"]
        example = {"inputs": str([[[0.0] * size] * 2]) if size <= 4 else f"[[[0.0] * {size}] * 2]", "lengths": "[2]"}
    return "\n".join(lines) + f"\n\n```python\n{kind.call.format(**example, dtype=takes['type'])}```"


def _compared(found: Mapping[str, Any]) -> str:
    """Return a table of the largest difference and the run's rounding error at each length."""
    rows = [
        f"| {row['steps']} | {row['difference']:.1e} | {_error(row['rounding'])} | {row['allowed']:.1e}"
        f" | {row['largest_output']:.3g} |"
        for row in found["lengths"]
    ]
    return "\n".join(
        [
            f"{found['batches']} batches of random inputs of 1, 3 and 64 rows. The rounding error is the largest"
            " difference between the run's outputs in float32 and the reference loop in float64. Allowed:"
            f" {found['multiple']} times the rounding error, or {found['floor']:g} of the largest output if that is"
            " more.",
            "",
            "| steps (maximum) | largest difference | rounding error of the run | allowed | largest output |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _error(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1e}"


FORMAT = 1
"""Version of ``export.json``."""
DESCRIPTION, LABELS, CARD = "export.json", "labels.json", "README.md"
PROGRAMS = ("predict.py", "table_files.py")
"""Files that classify texts with ``encode.py`` and ``model.onnx``; they import neither seqlab nor torch."""


def export(run_dir: Path, name: str, out: Path | None = None) -> tuple[Path, Comparison]:
    """Export a run's model with labels, vocabulary and model card.

    Args:
        run_dir: folder of a finished run.
        name: key of :data:`.formats.FORMATS`.
        out: folder to create; default ``export/<name>`` in the run folder.

    Raises:
        UserError: the run cannot be loaded or exported, the file differs from the run, or the folder exists; no file
            is left.
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
    lacking = _lacking(trained, has_encoder=(place / "encode.py").exists())
    if kind.file == "model.onnx" and lacking is None:
        for program in PROGRAMS:
            atomic.write_text(place / program, (Path(__file__).parent / "standalone" / program).read_text("utf-8"))
    description = _description(name, kind, trained, inputs, results, found)
    description["no_predict"] = lacking if kind.file == "model.onnx" else None
    atomic.write_json(place / DESCRIPTION, description)
    names = sorted(path.name for path in place.iterdir())
    try:
        card = model_card(description, results, kind, names)
    except (AttributeError, TypeError, KeyError, ValueError) as error:  # of what is no record of a run
        said = f"{type(error).__name__}: {one_line(error)[:200]}"
        raise UserError(f"{trained.folder / run_folder.RESULTS} is not the record of a run: {said}") from error
    atomic.write_text(place / CARD, escape_control(card))
    return found


def _lacking(trained: Trained, *, has_encoder: bool) -> str | None:
    """Return why ``predict.py`` cannot classify texts with this model."""
    if label_names(trained.task) is None or not _is_softmax(trained):
        return f"task={trained.nodes['task']['name']} does not classify texts"
    if trained.preprocessor is None:
        return "the task has no texts"
    if has_encoder:
        return None
    node = trained.nodes["preprocessing"]
    steps = f" with the steps {', '.join(node['steps'])}" if node.get("steps") else ""
    return f"preprocessing={node['name']}{steps} needs packages beyond the standard library"


def _is_softmax(trained: Trained) -> bool:
    """Whether the task's probabilities are the softmax of its outputs, as ``predict.py`` assumes."""
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
            "lengths": list(map(asdict, found.rows)),
        },
    }


def _without_folders(node: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Reduce absolute paths to their last part, so that no path of the machine is published."""

    def shown(value: Any) -> Any:
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return None if node is None else {key: shown(value) for key, value in node.items()}


def _axes(inputs: InputSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    lengths = {"type": "int64", "axes": ["batch"]}
    if inputs.kind == "tokens":
        return {"type": "int64", "axes": ["batch", "time"]}, lengths
    return {"type": "float32", "axes": ["batch", "time", inputs.size]}, lengths


def _settle(place: Path, out: Path) -> None:
    """Move the finished folder into place and flush it to disk."""
    for path in place.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    place.chmod(0o755)
    atomic.sync(place)
    place.rename(out)
    atomic.sync(out.parent)
