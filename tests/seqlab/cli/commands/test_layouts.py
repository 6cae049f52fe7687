"""Published layouts through ``data``, training, ``evaluate`` and ``predict``: rows, labels and order."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.seqlab_tasks.test_published_layouts import LAYOUTS, ROWS

BOW = ["model=bow", "logger=none", "trainer.progress=false", "trainer.max_epochs=2"]
OF_TASK = ("header", "quoting", "encoding")
"""Options of the task that ``evaluate`` and ``predict`` have, too."""


def overrides(name, options):
    return ["task=textclf", f"task.data={name}", *(f"task.{key}={value}" for key, value in options.items())]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_from_data_to_answers(cli, tmp_path, name):
    content, options, form = LAYOUTS[name]
    if callable(content):
        content(Path(name))
    else:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    task = overrides(name, options)
    counts = Counter(label for _, label in ROWS)

    shown = cli("data", *task, "--json")
    assert shown.code == 0, shown.err
    assert {label: sum(each.values()) for label, each in json.loads(shown.out)["class_counts"].items()} == counts

    trained = cli(*task, *BOW, "hydra.run.dir=run")
    assert trained.code == 0, trained.err
    flags = [part for key in OF_TASK if key in options for part in (f"--{key}", options[key])]

    scored = cli("evaluate", "run", "--data", name, "--json", *flags)
    assert scored.code == 0, scored.err
    record = json.loads(scored.out)
    assert {row["class"]: row["examples"] for row in record["classes"]} == counts

    answered = cli("predict", "run", "--input", name, "--output", "out.csv", *flags)
    assert answered.code == 0, answered.err
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [form.format(text) for text, _ in ROWS]
    assert all(text in row.values() for text, row in zip(expected, rows, strict=True)), rows[0]
    answers = [row.get("predicted_label", row["label"]) for row in rows]
    hits = sum(answer == label for answer, (_, label) in zip(answers, ROWS, strict=True))
    assert hits / len(ROWS) == pytest.approx(record["metrics"]["accuracy"])
