"""``evaluate``: the task's own metrics on new data."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab.cli.commands.evaluate import Scores, show
from seqlab.cli.output import Output

ROWS = [
    ("Banana", "Aaish"),
    ("Bonobo", "Ooish"),
    ("Nebele", "Eeish"),
    ("Bobobo", "Aaish"),  # wrong on purpose, as are the next two
    ("Lalala", "Eeish"),
    ("Lolo", "Eeish"),
    ("Leleb", "Eeish"),
]


@pytest.fixture
def data():
    Path("new.csv").write_text("".join(f"{text},{label}\n" for text, label in [("text", "label"), *ROWS]), "utf-8")
    return "new.csv"


def by_hand(run, rows):
    """Accuracy and errors from ``predict`` on each text alone."""
    trained = seqlab.load(run)
    answers = [trained.predict([text], top=1)[0][0] for text, _ in rows]
    errors = [
        (text, label, answer["label"], answer["probability"])
        for (text, label), answer in zip(rows, answers, strict=True)
        if answer["label"] != label
    ]
    return 1 - len(errors) / len(rows), sorted(errors, key=lambda error: -error[3])


def test_metrics_and_errors_are_those_of_predict(cli, tongues, data):
    done = cli("evaluate", str(tongues), "--data", data, "--json", "--worst", "2")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    accuracy, errors = by_hand(tongues, ROWS)
    assert record["rows"] == len(ROWS)
    assert record["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert 0 < accuracy < 1
    assert record["metrics"].keys() == record["chance"].keys()
    assert [(e["text"], e["label"], e["predicted"]) for e in record["worst"]] == [error[:3] for error in errors[:2]]
    assert [e["probability"] for e in record["worst"]] == pytest.approx([error[3] for error in errors[:2]], abs=1e-5)


def test_the_baseline_predicts_the_label_counts_of_training(cli, tongues, data):
    """The loss of a predictor with the label frequencies of training."""
    counts = torch.tensor(json.loads((tongues / "model.json").read_text("utf-8"))["task_state"]["counts"]) + 1.0
    labels = seqlab.load(tongues).task.label_names()
    expected = -sum((counts / counts.sum()).log()[labels.index(label)].item() for _, label in ROWS) / len(ROWS)
    record = json.loads(cli("evaluate", str(tongues), "--data", data, "--json").out)
    assert record["chance"]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_runs_own_test_split_scores_what_the_run_recorded(cli, tongues):
    recorded = json.loads((tongues / "results.json").read_text("utf-8"))
    from seqlab.config.build import build_task

    task = build_task(recorded["config"]["task"])
    test, names = task.splits()["test"], task.label_names()
    lines = [{"name": text, "tongue": names[target]} for text, target in zip(test.inputs, test.targets, strict=True)]
    Path("test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    done = cli(
        "evaluate", str(tongues), "--data", "test.jsonl", "--text-column", "name", "--label-column", "tongue", "--json"
    )
    record = json.loads(done.out)
    assert record["metrics"] == pytest.approx(recorded["metrics"]["test"], abs=1e-5)
    assert record["chance"] == pytest.approx(recorded["chance"]["test"], abs=1e-5)


def test_the_tables(cli, tongues, data):
    done = cli("evaluate", str(tongues), "--data", data)
    assert done.code == 0
    for fragment in ("7 rows of new.csv", "accuracy", "baseline", "Errors of", "Bobobo", "Lalala"):
        assert fragment in done.out
    assert "Errors of" not in cli("evaluate", str(tongues), "--data", data, "--worst", "0").out


def test_it_needs_no_training_data(cli, tongues, data):
    shutil.copytree(tongues, "alone")
    for file in Path("alone").iterdir():
        if file.name not in ("model.json", "model.safetensors", "preprocessor.json"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    card = json.loads(Path("alone/model.json").read_text("utf-8"))
    card["task"]["parameters"]["data_dir"] = "nowhere"
    Path("alone/model.json").write_text(json.dumps(card), "utf-8")
    assert cli("evaluate", "alone", "--data", data).code == 0


def test_a_folder_for_each_label(cli, tongues, data):
    for number, (text, label) in enumerate(ROWS):
        folder = Path("tree") / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(f"\ufeff{text}", "utf-8")
    (Path("tree") / "Aaish" / ".hidden.txt").write_text("x", "utf-8")
    records = [json.loads(cli("evaluate", str(tongues), "--data", where, "--json").out) for where in ("tree", data)]
    assert records[0]["metrics"] == pytest.approx(records[1]["metrics"])
    Path("empty/Aaish").mkdir(parents=True)
    cli("evaluate", str(tongues), "--data", "empty").refused("empty has no texts; it must have a folder for each label")


def test_labels_that_the_model_does_not_know(cli, tongues, data):
    with Path(data).open("a", encoding="utf-8") as file:
        file.write("Qapla,Klingon\nQapla,Klingon\nBanana,\nBanana,  Aaish \n")
    line = "new.csv: 2 labels in 3 rows that the model does not have: Klingon (2), (empty) (1); it has Aaish, Eeish, "
    cli("evaluate", str(tongues), "--data", data).refused(line, "add --skip-unknown")
    done = cli("evaluate", str(tongues), "--data", data, "--skip-unknown", "--json")
    assert done.code == 0
    assert line in done.err
    record = json.loads(done.out)
    assert record["rows"] == len(ROWS) + 1
    assert record["skipped"] == {"Klingon": 2, "": 1}
    assert record["metrics"]["accuracy"] == pytest.approx(by_hand(tongues, [*ROWS, ("Banana", "Aaish")])[0])
    Path(data).write_text("text,label\nQapla,Klingon\n", "utf-8")
    cli("evaluate", str(tongues), "--data", data, "--skip-unknown").refused(
        "1 label in 1 rows", "no row is left to score"
    )


def test_empty_texts_count(cli, tongues, data):
    with Path(data).open("a", encoding="utf-8") as file:
        file.write(",Aaish\n")
    done = cli("evaluate", str(tongues), "--data", data)
    assert "8 rows" in done.out
    assert "empty texts after preprocessing, included in the scores: 1" in done.out


def test_a_task_without_labels(cli, tongues, data, monkeypatch):
    from seqlab_tasks.classification import Classification

    monkeypatch.setattr(Classification, "label_names", lambda self: None)
    cli("evaluate", str(tongues), "--data", data).refused("its task has no labels, so there is nothing to compare")
    Path("in.csv").write_text("text\nBanana\n", "utf-8")
    done = cli("predict", str(tongues), "--input", "in.csv", "--output", "out.csv")
    done.refused("its task has no labels, so there is no column to add")


def test_a_text_cannot_write_to_the_terminal(tongues, capsys):
    error = {"text": "\x1b[31mred\u202e[bold]", "label": "a", "predicted": "b", "probability": 0.5}
    show(Scores(rows=1, worst=[error]), "new.csv", seqlab.load(tongues), Output())
    assert "\ufffd[31mred\ufffd[bold]" in capsys.readouterr().out


def test_labels_that_look_like_known_ones_are_named(cli, tongues, data):
    Path(data).write_text("text,label\nBanana,aaish\nBonobo,O\u200boish\nBonobo,x\n", "utf-8")
    done = cli("evaluate", str(tongues), "--data", data)
    done.refused("'aaish', where the model has 'Aaish' (1)", "'O\\u200boish', where the model has 'Ooish' (1)", "x (1)")


def test_rows_that_a_quote_joins_are_refused(cli, tongues, data):
    rows = [*ROWS, *ROWS]
    lines = ["text,label", *(f"{text},{label}" for text, label in rows), ""]
    lines[2], lines[5] = f'"{lines[2]}', 'Lalala",Eeish'
    Path(data).write_text("\n".join(lines), "utf-8")
    cli("evaluate", str(tongues), "--data", data).refused("joins 4 rows to 1: lines 3 to 6", "--quoting none")
    done = cli("evaluate", str(tongues), "--data", data, "--quoting", "none")
    assert f"{len(rows)} rows of new.csv" in done.out
    Path("new.tsv").write_text(Path(data).read_text("utf-8").replace(",", "\t"), "utf-8")
    assert f"{len(rows)} rows of new.tsv" in cli("evaluate", str(tongues), "--data", "new.tsv").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "p.csv", "--text-column", "a"], "--text-column goes with --data FILE; with --pairs, use"),
        (["--pairs", "p.csv", "--label-column", "a"], "--label-column goes with --data FILE"),
        (["--pairs", "p.csv", "--worst", "3"], "--worst goes with --data FILE"),
        (["--pairs", "p.csv", "--skip-unknown"], "--skip-unknown goes with --data FILE"),
        (["--pairs", "p.csv", "--force"], "--force goes with --output FILE"),
        (["--data", "d.csv", "--force"], "--force goes with --pairs FILE --output FILE"),
        (["--data", "d.csv", "--output", "o.csv"], "--output is the table of --pairs FILE"),
        (["--data", "d.csv", "--pair-columns", "a", "b"], "--pair-columns goes with --pairs FILE"),
        (["--data", ".", "--text-column", "a"], "--text-column goes with a table, but --data=. is a folder"),
        (["--data", ".", "--label-column", "a"], "--label-column goes with a table, but --data=. is a folder"),
    ],
)
def test_options_that_mean_nothing_are_refused(cli, tongues, arguments, message):
    cli("evaluate", str(tongues), *arguments).refused(message)
