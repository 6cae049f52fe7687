"""An exported folder in an environment with numpy and onnxruntime alone answers as the run does."""

import csv
import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

import seqlab
from seqlab.export.folder import export
from tests.tickets import tickets, write_tickets

ROWS = 200
MODELS = {
    "gru": [
        "cell=gru", "model.bidirectional=true", "model.pooling=attention", "preprocessing=words",
        "preprocessing.steps=[lower]",
    ],
    "bow": ["model=bow"],
    "transformer": ["model=attention"],
    "lstm": ["cell=lstm", "model.depth=2", "model.pooling=max", "preprocessing=characters", "task.sequence_length=40"],
    "rnn": ["cell=rnn", "model.pooling=mean", "preprocessing=characters", "preprocessing.steps=[ascii,lower]"],
    "byte pairs": ["cell=rnn", "preprocessing=bpe", "preprocessing.vocabulary_size=400"],
    "a cell without a routine": ["cell=mingru", "model.block=prenorm_mlp", "model.conv=3", "model.pooling=last"],
    "bow of characters": ["model=bow", "preprocessing=characters"],
    "bow with subwords": ["model=bow", "model.subword_order=4", "preprocessing=words", "preprocessing.steps=[lower]"],
    "bow by the optimizer": ["model=bow", "model.solver=optimizer"],
    "tcn": ["model=tcn", "model.depth=2"],
    "window": ["model=window"],
}  # fmt: skip
ALWAYS = ("gru", "bow")
QUICK = [
    "trainer.max_epochs=1", "trainer.limit_train_batches=6", "trainer.limit_val_batches=1", "logger=none",
    "trainer.limit_test_batches=1", "trainer.progress=false", "trainer.threads=1", "cell.hidden_size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Python of a new environment that has numpy and onnxruntime, and nothing else."""
    import numpy
    import onnxruntime

    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder, symlinks=os.name == "posix", with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    for package in (numpy, onnxruntime):
        installed = Path(package.__file__).parent
        for part in (installed, installed.with_name(f"{installed.name}.libs")):
            if part.exists():
                (packages / part.name).symlink_to(part, target_is_directory=True)
    for name in ("torch", "seqlab"):
        tried = subprocess.run([python, "-c", f"import {name}"], cwd=folder, capture_output=True, check=False)
        assert b"ModuleNotFoundError" in tried.stderr
    return python


@pytest.fixture(scope="module")
def ran(alone, tmp_path_factory):
    """Run a program of a folder in the new environment."""

    def run(folder, *arguments, data=b""):
        environment = {"PATH": os.defpath, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [alone, "-W", "error", "predict.py", *arguments],
            cwd=folder, env=environment, input=data, capture_output=True, timeout=120, check=False,
        )  # fmt: skip

    return run


def train(overrides, folder):
    """A run on 400 tickets, and its exported folder."""
    write_tickets(folder / "tickets.csv", 400)
    task = ["task=textclf", f"task.data={folder / 'tickets.csv'}", "task.quoting=standard", "task.baseline=none"]
    used = [each for each in QUICK if "model=" not in overrides[0] or not each.startswith("cell.")]
    if overrides[0] == "model=bow":
        used = [each for each in used if "limit_" not in each]
    seqlab.run(seqlab.compose([*task, *overrides, *used]), folder / "run")
    return folder / "run", export(folder / "run", "onnx", folder / "out")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in MODELS]
)
def test_four_ways_of_input_give_what_the_run_predicts(name, ran, tmp_path, monkeypatch):
    """Labels are equal, probabilities within 1e-4; columns are kept."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    run, folder = train(MODELS[name], tmp_path)
    texts = [text for text, _ in tickets(2 * ROWS, seed=9)][:ROWS]
    texts[:3] = ["Nébele é", "e\u0301cole \u3042 \U0001f600", "ﬁ Ａ ² İ ß"]
    one_line = [" ".join(text.split()) for text in texts]
    trained = seqlab.load(run)
    expected = {text: trained.predict([text])[0] for text in {*texts, *one_line}}
    for way in (ran(folder, *one_line), ran(folder, data="\n".join(one_line).encode())):
        check_lines(way, one_line, expected)
    check_tables(ran, folder, texts, expected)


def agree(answers, label, probability, rank=0):
    """The label is that of this rank, or one that is as likely."""
    answer = answers[rank]
    assert abs(float(probability) - answer["probability"]) <= 1e-4
    assert label in [each["label"] for each in answers if abs(each["probability"] - answer["probability"]) < 1e-6]


def check_lines(done, texts, expected):
    """Text, label, probability, label, ... of each text."""
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    printed = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [cells[0] for cells in printed] == texts
    for text, *answers in printed:
        assert len(answers) == 2 * len(expected[text])
        for rank in range(len(answers) // 2):
            agree(expected[text], answers[2 * rank], answers[2 * rank + 1], rank)


def check_tables(ran, folder, texts, expected):
    """CSV and JSON lines, with the columns that they had."""
    with (folder / "in.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text", "note"], *([n, text, 'a "b", c'] for n, text in enumerate(texts))])
    lines = [json.dumps({"text": text, "n": n, "more": [n, None]}) + "\n" for n, text in enumerate(texts)]
    (folder / "in.jsonl").write_text("".join(lines), "utf-8")
    for given in ("in.csv", "in.jsonl"):
        done = ran(folder, "--input", given, "--output", f"out/{given}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().strip() == f"out/{given}: 200 rows, with the columns label and probability added"
    with (folder / "out" / "in.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [json.loads(line) for line in (folder / "out" / "in.jsonl").read_text("utf-8").splitlines()]
    assert [list(row.values())[:3] for row in rows] == [[str(n), text, 'a "b", c'] for n, text in enumerate(texts)]
    assert [list(row.values())[:3] for row in found] == [[text, n, [n, None]] for n, text in enumerate(texts)]
    for row in (*rows, *found):
        agree(expected[row["text"]], row["label"], row["probability"])
