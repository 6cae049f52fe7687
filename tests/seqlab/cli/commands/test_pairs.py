"""``evaluate --pairs``: minimal pairs scored by a language model."""

import csv
import itertools
import json
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab import Batch
from seqlab.inference import log_probabilities

PAIRS = [
    ("the dog near the cats runs", "the dog near the cats run"),
    ("the dogs sleep", "the dogs sleeps"),
    ("the cat sleeps", "the cat sleep"),
    ("the cats near the dog runs", "the cats near the dog run"),  # swapped on purpose
    ("the unicorn sleeps", "the unicorn sleep"),  # not in the training text
    ("the cat", "the cat"),
]


@pytest.fixture(
    scope="module", params=["preprocessing=words preprocessing.end_of_line=true", "preprocessing=characters"]
)
def model(request, tmp_path_factory):
    """A language model of sentences in which the verb agrees with the first noun."""
    folder = tmp_path_factory.mktemp("agreement")
    lines = [
        f"the {a}{s} near the {b}{o} {verb}{'' if s else 's'}\nthe {a}{s} {verb}{'' if s else 's'}"
        for a, b, s, o, verb in itertools.product(
            ("dog", "cat"), ("dog", "cat"), ("", "s"), ("", "s"), ("run", "sleep")
        )
    ]
    (folder / "text.txt").write_text("\n".join(lines * 40) + "\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_CACHE", str(folder))
        words = ["task=lm", f"task.data={folder / 'text.txt'}", "cell=gru", "cell.hidden_size=16", "logger=none"]
        words += ["model.embedding_size=8", "task.sequence_length=20", "data.batch_size=16", "trainer.max_steps=60"]
        words += ["optimizer.lr=0.03", "trainer.progress=false", "trainer.threads=1", *request.param.split()]
        seqlab.run(seqlab.compose(words), folder / "run")
    return folder / "run"


def by_hand(trained, text):
    """The sum over steps of the log of the softmax, each from a pass over the tokens before it."""
    preprocessor = trained.preprocessor
    (newline,) = preprocessor.encode(["\n"]).values.tolist()
    ids = [newline, *preprocessor.encode([f"{text}\n"]).values.tolist()]
    total = 0.0
    for step in range(1, len(ids)):
        with torch.no_grad():
            outputs, _ = trained.model(Batch(torch.tensor([ids[:step]]), None, torch.empty(0)))
        scores = outputs[0, -1].double()
        total += float(scores[ids[step]] - scores.exp().sum().log())
    return total


def write(path, pairs, separator="\t"):
    lines = [separator.join(row) for row in [("grammatical", "ungrammatical"), *pairs]]
    Path(path).write_text("\n".join(lines) + "\n", "utf-8")


def test_log_probabilities_are_sums_over_steps(model):
    trained = seqlab.load(model)
    texts = [text for pair in PAIRS for text in pair] + [""]
    found = log_probabilities(trained, texts)
    assert [each.nats for each in found] == pytest.approx([by_hand(trained, text) for text in texts], rel=1e-5)
    assert log_probabilities(trained, []) == []


def test_the_share_of_pairs_and_the_table(model, cli):
    write("pairs.tsv", PAIRS)
    trained = seqlab.load(model)
    logs = [(by_hand(trained, good), by_hand(trained, bad)) for good, bad in PAIRS]
    done = cli("evaluate", str(model), "--pairs", "pairs.tsv", "--output", "scored.csv", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record["pairs"] == len(PAIRS)
    assert record["ties"] == sum(good == bad for good, bad in PAIRS)
    assert record["correct"] == sum(good > bad + 1e-9 for good, bad in logs)
    assert record["low"] < record["accuracy"] == record["correct"] / len(PAIRS) < record["high"]
    with Path("scored.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["grammatical"], row["ungrammatical"]) for row in rows] == PAIRS
    assert [float(row["log_probability"]) for row in rows] == pytest.approx([good for good, _ in logs], rel=1e-5)
    assert sum(row["correct"] == "true" for row in rows) == record["correct"]
    shown = cli("evaluate", str(model), "--pairs", "pairs.tsv")
    assert f"{record['correct']} of {len(PAIRS)} pairs" in shown.out
    assert "Wilson 95 %" in shown.out


def test_other_columns_and_layouts(model, cli):
    Path("pairs.jsonl").write_text('{"sentence_good": "the dogs run", "sentence_bad": "the dogs runs"}\n' * 3, "utf-8")
    write("bare.csv", PAIRS[:2], ",")
    for options in (
        ("pairs.jsonl", "--pair-columns", "sentence_good", "sentence_bad"),
        ("bare.csv", "--header", "none", "--pair-columns", "1", "2"),  # the names of the columns are a row
    ):
        done = cli("evaluate", str(model), "--pairs", *options, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["pairs"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pairs", "none.tsv"), "there is no such file"),
        (("--pairs", "pairs.tsv", "--pair-columns", "good", "ungrammatical"), "good"),
        (("--pairs", "pairs.tsv", "--pair-columns", "grammatical", "grammatical"), "two columns"),
        (("--pairs", "pairs.tsv", "--output", "out.xyz"), "out.xyz"),
        (("--pairs", "pairs.tsv", "--data", "pairs.tsv"), "not allowed with"),
        (("--data", "pairs.tsv", "--output", "out.csv"), "--output is the table of --pairs"),
        ((), "--data"),
    ],
)
def test_mistakes_are_one_line(model, cli, arguments, message):
    write("pairs.tsv", PAIRS)
    done = cli("evaluate", str(model), *arguments)
    assert done.code == 1
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("out.csv").exists()


def test_a_classifier_is_refused(tongues, cli):
    write("pairs.tsv", PAIRS)
    done = cli("evaluate", str(tongues), "--pairs", "pairs.tsv")
    assert done.code == 1
    assert "evaluate --pairs needs a run of task=lm" in done.err
