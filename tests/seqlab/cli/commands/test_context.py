"""``context`` finds how far back a model looks, and its losses are those of reading each context by itself."""

import csv
import math
import random

import pytest
import torch

import seqlab
from seqlab.study import context
from seqlab.study.context import ContextStudy, tokens_of_test

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
    assert f"effective context: {BACK} tokens (the least within 1 % of the whole)" in done.out
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
    """In pieces as small as can be, which changes nothing; the whole is a plain pass over all of the text."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    words = ["trainer.max_epochs=1", "trainer.limit_train_batches=4", "trainer.limit_val_batches=1"]
    sizes = ["cell=gru", "cell.hidden_size=5"] if model == "recurrent" else ["model.hidden_size=8"]
    trained = seqlab.load(train(tmp_path / "run", text, f"model={model}", *sizes, *words))
    tokens = tokens_of_test(trained)
    ids = torch.from_numpy(tokens.read(0, 600))
    trained.model.requires_grad_(False)
    for most in (1, 2**24):
        monkeypatch.setattr(context, "_OUTPUTS", most)
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
