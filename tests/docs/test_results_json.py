"""The fields of docs/reference/results_json.md against the results.json of real runs."""

import re
from pathlib import Path

import pytest

import seqlab

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "results_json.md").read_text("utf-8")
ROWS = dict(re.findall(r"^- `([^`]+)` \(([a-z ]+)\)(?::|$)", PAGE, re.MULTILINE))
KINDS = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "integer or null": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    "number": lambda value: value is None or (isinstance(value, int | float) and not isinstance(value, bool)),
    "boolean": lambda value: isinstance(value, bool),
    "any": lambda value: True,
}
ELSEWHERE = {
    "cost.peak_gpu_memory_bytes", "hardware.gpus[]", "data.*.dropped.*", "git", "git.commit", "git.dirty", "freeze[]",
    "history[].changed.*", "history[].data[]", "history[].unrecorded", "estimate.*",
    "linear.*.*", "linear.seconds", "chosen_by_task[]",
}  # fmt: skip
"""Fields that these runs may lack: GPUs, frozen modules, a repository, resumed runs, folds, a linear baseline."""
RUNS = {
    "names": ["task=names", "cell=gru", "cell.hidden_size=8"],
    "first": ["task=first", "task.sequence_length=5", "task.eval_lengths=[9]", "task.examples=64", "task.held_out=64"],
    "lm": ["task=lm", "task.data=text.txt", "task.sequence_length=10", "cell.hidden_size=8"],
}


def matches(pattern, path):
    """Whether a field matches a row; ``*`` is any name, with dots."""
    parts = [re.escape(part).replace(r"\*", ".+") for part in pattern.split(".")]
    return re.fullmatch(r"\.".join(parts), path) is not None


def leaves(value, path=""):
    """Yield each field with its path; fields documented as a whole are not expanded."""
    if path in ("config", "init_from") or any(matches(row, path) for row in ROWS if row.startswith("tables")):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, value


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    (folder / "text.txt").write_text("".join(f"line {n} of a text\n" for n in range(300)), "utf-8")
    quick = ["debug=limit", "trainer.max_epochs=1", "trainer.progress=false", "logger=none"]
    found = {}
    for name, words in RUNS.items():
        words = [word.replace("text.txt", str(folder / "text.txt")) for word in words]
        found[name] = seqlab.run(seqlab.compose([*words, *quick]), folder / name).record
    return found


def test_every_field_of_a_run_is_documented_with_its_type(records):
    for name, record in records.items():
        for path, value in leaves(record):
            rows = [row for row in ROWS if matches(row, path)]
            assert rows, f"{path} of task={name} is not documented"
            assert any(KINDS[ROWS[row]](value) for row in rows), f"{path} is {value!r}, not {ROWS[rows[0]]}"


def test_every_documented_field_occurs_in_a_run(records):
    assert len(ROWS) > 40
    there = {path for record in records.values() for path, _ in leaves(record)}
    missing = {row for row in ROWS if not any(matches(row, path) for path in there)}
    assert missing <= ELSEWHERE
