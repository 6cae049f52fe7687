"""``data``, training, ``evaluate`` and ``predict`` on one table with several text columns and coded labels."""

import csv
import json
import random
from pathlib import Path

import pytest

FAST = ["trainer.max_epochs=3", "cell.hidden_size=8", "model.embedding_size=8", "logger=none", "trainer.progress=false"]
TASK = [
    "task=textclf", "task.data=tickets.csv", "task.text_column=[subject,body]", "task.label_column=queue",
    "task.label_names={1: Billing, 2: Network}", "task.group_column=customer", "task.rare=merge",
    "task.on_missing=drop",
]  # fmt: skip
WORDS = {"1": "refund invoice price", "2": "router cable slow", "3": "password", "4": "holiday"}


@pytest.fixture
def tickets(tmp_path):
    """Unequal classes, two of them rare; a group column, quotes, line ends, and rows without a label."""
    draw = random.Random(0)
    rows = []
    for number in range(200):
        queue = "1" if number % 10 else "2"
        if number % 50 == 3:
            queue = "34"[number // 50 % 2]
        text = " ".join(draw.choices(WORDS[queue].split(), k=4))
        subject = "" if number % 7 == 0 else f'the "{text}"'
        rows.append([f"T{number:03}", subject, f"{text},\nplease {number}", queue, f"customer {number % 40}"])
    rows.append(["T200", "no queue", "at all", "", "customer 0"])
    with (tmp_path / "tickets.csv").open("w", encoding="cp1252", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["id", "subject", "body", "queue", "customer"], *rows])
    return rows


@pytest.mark.slow
def test_a_table_from_data_to_answers(cli, tickets):
    shown = cli("data", *TASK, "--json", "--examples", "4")
    assert shown.code == 0, shown.err
    record = json.loads(shown.out)
    counts = {label: sum(each.values()) for label, each in record["class_counts"].items()}
    assert counts == {"Billing": 180 - 4, "Network": 20, "other": 4}
    assert {example["label"] for example in record["examples"]} <= counts.keys()
    assert record["command"].endswith("task.on_missing=drop task.balance=weights")
    assert "rows without a text or a label, skipped: 1" in record["notes"]

    trained = cli(*TASK, *FAST, "hydra.run.dir=run")
    assert trained.code == 0, trained.err
    results = json.loads(Path("run/results.json").read_text("utf-8"))
    assert {row["class"] for row in results["tables"]["classes"]} == counts.keys()

    scored = cli("evaluate", "run", "--data", "tickets.csv", "--skip-unknown", "--json")  # the columns are the run's
    assert scored.code == 0, scored.err
    record = json.loads(scored.out)
    assert record["rows"] == 200
    assert {row["class"]: row["examples"] for row in record["classes"]} == counts
    assert record["skipped"] == {"": 1}

    answered = cli("predict", "run", "--input", "tickets.csv", "--output", "out.csv")
    assert answered.code == 0, answered.err
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    assert [list(row.values())[:5] for row in answers] == tickets  # every row and column, in order
    assert {row["label"] for row in answers} <= counts.keys()
    chosen = cli(
        "predict", "run", "--input", "tickets.csv", "--column", "subject", "--column", "body", "--output", "o.csv"
    )
    assert chosen.code == 0, chosen.err
    assert Path("o.csv").read_bytes() == Path("out.csv").read_bytes()
