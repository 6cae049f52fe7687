"""``inspect`` and ``context``: figures equal those of the model, of finite differences and of texts read alone."""

import csv
import math
import random
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab import Batch
from seqlab.study import context
from seqlab.study.context import ContextStudy, encode_test_split
from seqlab.study.inspection import inspect


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A small language model of two layers."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "text.txt").write_text(
        "one two three four five six seven\nseven six five four three two one\n" * 60, "utf-8"
    )
    words = ["task=lm", f"task.data={folder / 'text.txt'}", "cell=gru", "cell.hidden_size=6", "model.depth=2"]
    quick = ["trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.progress=false", "logger=none"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_CACHE", str(folder / "cache"))
        return seqlab.run(seqlab.compose([*words, *quick]), folder / "run").folder


def test_a_name(cli, tongues):
    done = cli("inspect", str(tongues), "Banana")
    assert done.code == 0, done.err
    assert "Aaish" in done.out
    assert f"figure   {tongues / 'inspect-banana.png'}" in done.out
    assert (tongues / "inspect-banana.png").stat().st_size > 10_000
    assert len([line for line in done.out.split("\n") if line.startswith("│")]) == len("Banana")


def test_states_and_answers_are_those_of_the_model(tongues):
    trained = seqlab.load(tongues)
    seen = inspect(trained, "Bonobo")
    assert seen.symbols == list("Bonobo")
    assert [one[0]["label"] for one in seen.predictions] == [one[0]["label"] for one in trained.predict(
        ["Bonobo"[:end] for end in range(1, 7)])]  # fmt: skip
    (answer,) = trained.predict(["Bonobo"], top=1)
    assert seen.prediction == answer[0]["label"] == "Ooish"
    assert seen.probability == pytest.approx(answer[0]["probability"], abs=1e-5)
    (view,) = seen.layers
    assert {name: tuple(leaf.shape) for name, leaf in view.states.items()} == {"h": (6, 8), "c": (6, 8)}
    f, i, g, o = (view.gates[name].values for name in ("forget", "input", "candidate", "output"))
    c = view.states["c"]
    assert torch.allclose(c[1:], f[1:] * c[:-1] + i[1:] * g[1:])
    assert torch.allclose(view.states["h"], o * c.tanh())


def test_the_gradient_is_that_of_the_answer(tongues):
    """A step along the gradient changes ln p by its squared length: central differences through the embedding."""
    trained = seqlab.load(tongues)
    seen = inspect(trained, "Nebele")
    model = trained.model.double()
    ids = trained.encode(["Nebele"]).values[None]
    vectors = model.encoder(ids).detach()
    label = int(model(Batch(ids, None, torch.empty(0)))[0].argmax())

    @torch.no_grad()
    def value(vectors):
        model.encoder = torch.nn.Identity()
        return model(Batch(vectors, None, torch.empty(0)))[0].log_softmax(-1)[0, label]

    for step in range(6):
        squared = 0.0
        for feature in range(vectors.shape[2]):
            moved = [vectors.clone(), vectors.clone()]
            moved[0][0, step, feature] += 1e-5
            moved[1][0, step, feature] -= 1e-5
            squared += float((value(moved[0]) - value(moved[1])) / 2e-5) ** 2
        assert seen.gradients[step] == pytest.approx(math.sqrt(squared), rel=1e-4)


def test_a_sentence_and_what_comes_next(cli, writer):
    sentence = "seven six, one two: three four five six seven"
    done = cli("inspect", str(writer), sentence, "--out", "pictures/it.svg", "--layer", "all")
    assert done.code == 0, done.err
    assert "figure   pictures/it.svg" in done.out
    assert "the 40 of 45 symbols with the largest gradients" in done.out
    drawn = Path("pictures/it.svg").read_text("utf-8")
    assert drawn.rstrip().endswith("</svg>")
    seen = inspect(seqlab.load(writer), "one two")
    assert seen.is_next
    assert len(seen.next_probabilities) == 6
    outputs = seqlab.load(writer).model(
        Batch(seqlab.load(writer).encode(["one two"]).values[None], None, torch.empty(0))
    )
    ids = seqlab.load(writer).encode(["one two"]).values
    expected = outputs[0][0].softmax(-1)[torch.arange(6), ids[1:]]
    assert seen.next_probabilities == pytest.approx(expected.tolist(), abs=1e-5)
    assert [(view.layer, sorted(view.gates)) for view in seen.layers] == [
        (layer, ["candidate", "reset", "update"]) for layer in (0, 1)
    ]


def test_a_model_that_is_not_recurrent(cli, tongues, tmp_path):
    fast = ["model=bow", "trainer.max_epochs=1", "trainer.progress=false", "logger=none"]
    seqlab.run(seqlab.compose([*fast, f"task.data_dir={tongues.parent}"]), tmp_path / "bow")
    cli("inspect", "bow", "Banana").refused("model=bow is not recurrent")


BACK = 5
QUICK = ["task=lm", "trainer.progress=false", "logger=none", "trainer.threads=1", "task.sequence_length=40"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Each letter is mostly the one five before it: nearer ones say nothing of it."""
    draw, letters = random.Random(0), list("abcda")
    for _ in range(12_000):
        letters.append(letters[-BACK] if draw.random() < 0.95 else draw.choice("abcd"))
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(letters), "utf-8")
    return path


def train(folder, text, *words):
    config = seqlab.compose([*QUICK, f"task.data={text}", "task.held_out=0.2", *words])
    return seqlab.run(config, folder).folder


@pytest.fixture(scope="module")
def window(text, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("window")
        patch.setenv("SEQLAB_CACHE", str(folder / "cache"))
        words = ["model=window", f"model.context={BACK}", "model.embedding_size=8", "model.hidden_size=64"]
        yield train(folder / "run", text, *words, "optimizer.lr=0.03", "trainer.max_epochs=8", "data.batch_size=16")


def test_a_window_is_found_exactly(cli, window):
    done = cli("context", str(window), "--lengths", "2,8,30", "--tokens", "400")
    assert done.code == 0, done.err
    assert f"effective context: {BACK} tokens" in done.out
    assert f"reach: {BACK} tokens" in done.out
    with (window / "context.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by = {(row["kind"], row["context"]): row for row in rows}
    whole = float(by["whole", ""]["bits"])
    assert whole < 0.6
    assert float(by["truncated", str(BACK - 1)]["bits"]) > 1.5
    assert float(by["truncated", str(BACK)]["difference"]) == pytest.approx(0, abs=1e-6)
    assert float(by["shuffled", "8"]["difference"]) == pytest.approx(0, abs=1e-6)
    assert float(by["shuffled", "2"]["difference"]) > 0.3
    assert {row["tokens"] for row in rows} == {"400"}
    assert (window / "context.png").stat().st_size > 5_000


def test_an_ngram_model_reaches_its_order(cli, text, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    run = train(tmp_path / "run", text, "model=ngram", "model.order=7")
    done = cli("context", str(run), "--lengths", "2,20", "--tokens", "300")
    assert done.code == 0, done.err
    assert "reach: 6 tokens" in done.out


@pytest.mark.parametrize("model", ["recurrent", "attention"])
def test_each_context_is_read_by_itself(model, text, tmp_path, monkeypatch):
    """In batches of one and of all; the whole context is one pass over the text."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    words = ["trainer.max_epochs=1", "trainer.limit_train_batches=4", "trainer.limit_val_batches=1"]
    sizes = ["cell=gru", "cell.hidden_size=5"] if model == "recurrent" else ["model.hidden_size=8"]
    trained = seqlab.load(train(tmp_path / "run", text, f"model={model}", *sizes, *words))
    tokens = encode_test_split(trained)
    ids = torch.from_numpy(tokens.read(0, 600))
    trained.model.requires_grad_(False)
    for most in (1, 2**24):
        monkeypatch.setattr(context, "_MAX_OUTPUTS", most)
        study = ContextStudy(trained, tokens, count=12, lengths=[3, 17], limit=600)
        losses = study.truncated(3)
        for place, loss in zip(study.places.tolist(), losses.tolist(), strict=True):
            outputs = trained.model.eval()(seqlab.Batch(ids[place - 3 : place][None], None, torch.empty(0)))[0]
            expected = -float(outputs[0, -1].double().log_softmax(-1)[ids[place]]) / math.log(2)
            assert loss == pytest.approx(expected, abs=1e-5)
        assert torch.equal(study.shuffled(16, 17).sub(study.truncated(17)).abs() > 1e-4, torch.zeros(12, dtype=bool))
        if study.carries:
            whole = torch.cat([torch.tensor([study.begin]), ids[:-1]])[None]
            logs = trained.model(seqlab.Batch(whole, None, torch.empty(0)))[0][0].double().log_softmax(-1)
            expected = -logs[study.places, ids[study.places]] / math.log(2)
            assert torch.allclose(study.streamed(), expected, atol=1e-5)
    assert study.carries == (model == "recurrent")
    found = study.run()
    assert found.whole.startswith("all of the text" if study.carries else "17 tokens")
