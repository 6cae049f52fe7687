"""``inspect`` shows what the model did: the figures are those of the model, and finite differences agree."""

import math
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab import Batch
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


def test_what_is_shown_is_what_the_model_does(tongues):
    trained = seqlab.load(tongues)
    seen = inspect(trained, "Bonobo")
    assert seen.symbols == list("Bonobo")
    assert [one[0]["label"] for one in seen.answers] == [one[0]["label"] for one in trained.predict(
        ["Bonobo"[:end] for end in range(1, 7)])]  # fmt: skip
    (answer,) = trained.predict(["Bonobo"], top=1)
    assert seen.answer == answer[0]["label"] == "Ooish"
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
    assert len(seen.chances) == 6
    outputs = seqlab.load(writer).model(
        Batch(seqlab.load(writer).encode(["one two"]).values[None], None, torch.empty(0))
    )
    ids = seqlab.load(writer).encode(["one two"]).values
    expected = outputs[0][0].softmax(-1)[torch.arange(6), ids[1:]]
    assert seen.chances == pytest.approx(expected.tolist(), abs=1e-5)
    assert [(view.layer, sorted(view.gates)) for view in seen.layers] == [
        (layer, ["candidate", "reset", "update"]) for layer in (0, 1)
    ]


def test_a_model_that_is_not_recurrent(cli, tongues, tmp_path):
    fast = ["model=bow", "trainer.max_epochs=1", "trainer.progress=false", "logger=none"]
    seqlab.run(seqlab.compose([*fast, f"task.data_dir={tongues.parent}"]), tmp_path / "bow")
    cli("inspect", "bow", "Banana").refused("model=bow is not recurrent")
