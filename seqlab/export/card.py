"""Model card: training data, scores beside the baseline, and how to call the model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqlab.export.formats import Format

_FILES = {
    "export.json": "what the file takes and gives, the plugins and their options, the comparison",
    "labels.json": "the labels, in the order of the outputs",
    "preprocessor.json": "vocabulary",
    "encode.py": "from texts to token ids, in plain Python",
    "predict.py": "from text to label with onnxruntime alone: `python predict.py TEXT...`",
}


def model_card(description: Mapping[str, Any], results: Mapping[str, Any], kind: "Format", files: Sequence[str]) -> str:
    """Write the card as Markdown.

    Args:
        description: what ``export.json`` holds.
        results: the run's ``results.json``.
        kind: the format.
        files: names of the files in the folder.
    """
    parts = [
        f"# {results.get('title', 'a model')}",
        f"Exported by seqlab {description['seqlab']} as {description['exported_as']}: `{kind.file}`.",
        "## Trained on",
        _trained_on(description, results),
        "## Scores",
        _scores(results),
        "## How to call it",
        _how(description, kind, files),
        "## Compared with the run",
        _compared(description["compared"]),
        "## Files",
        "\n".join(f"- `{name}`: {_file_purpose(name, kind)}" for name in files),
    ]
    return "\n\n".join(parts) + "\n"


def _file_purpose(name: str, kind: "Format") -> str:
    return "the model" if name == kind.file else _FILES.get(name, "a step of `encode.py`")


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
    verdict = f"On the test split, scored once with the weights that validation chose: {results.get('verdict')}."
    return "\n".join([verdict, "", "| metric | test | baseline |", "|---|---|---|", *rows])


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "not known"


def _how(description: Mapping[str, Any], kind: "Format", files: Sequence[str]) -> str:
    takes = description["takes"]["inputs"]
    if not kind.runs_alone:
        return (
            "The file holds the weights alone, by name; seqlab's run folder makes the model that they fit.\n\n"
            f"```python\n{kind.call}```"
        )
    tokens = takes["type"] == "int64"
    step = "token ids, 0 in the padding" if tokens else "features"
    lines = [
        f"- `inputs`: {takes['type']} `{takes['axes']}`, {step}",
        "- `lengths`: int64 `['batch']`, valid steps of each row, from 1 to `time`",
        f"- `outputs`: float32 `{description['gives']['outputs']}`, before any softmax",
    ]
    if "time" in description["gives"]["outputs"]:
        lines.append("- outputs beyond a row's length are undefined; every row starts from the initial state")
    if description["longest"]:
        lines.append(f"- in training the steps beyond the first {description['longest']:,} of a sequence were not read")
    if tokens and "encode.py" not in files:
        lines.append("- token ids come from the preprocessing named above, with `preprocessor.json` as its state")
    example = {"inputs": "[[2, 3, 2], [3, 0, 0]]", "lengths": "[3, 1]"}
    if not tokens:
        size = description["input_size"]
        example = {"inputs": str([[[0.0] * size] * 2]) if size <= 4 else f"[[[0.0] * {size}] * 2]", "lengths": "[2]"}
    return "\n".join(lines) + f"\n\n```python\n{kind.call.format(**example, dtype=takes['type'])}```"


def _compared(found: Mapping[str, Any]) -> str:
    """Return a table of the largest difference at each length beside the rounding error of the run."""
    rows = [
        f"| {row['steps']} | {row['difference']:.1e} | {_error(row['rounding'])} | {row['allowed']:.1e}"
        f" | {row['largest_output']:.3g} |"
        for row in found["lengths"]
    ]
    return "\n".join(
        [
            f"{found['batches']} batches of random inputs, of 1, 3 and 64 rows. The rounding error is the largest"
            " difference of the run's outputs in float32 from the same in float64, with the reference loop. Allowed is"
            f" {found['multiple']} times that, or {found['floor']:g} of the largest output where this is more.",
            "",
            "| steps, at most | largest difference | rounding error of the run | allowed | largest output |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _error(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1e}"
