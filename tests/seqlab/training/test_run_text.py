"""A run on running text: exact evaluation, carried state, resuming, and generation from the run folder."""

import math

import pytest
import torch

import seqlab
from seqlab import Batch, UserError
from seqlab.inference import generate
from seqlab.recurrence import state_tensors
from seqlab.training.module import SequenceModule

from ..resumable import interrupted, same, weights_of

FAST = [
    "task=lm",
    "task.sequence_length=10",
    "cell.hidden_size=16",
    "data.batch_size=4",
    "optimizer.lr=0.02",
    "trainer.max_epochs=3",
    "trainer.progress=false",
    "logger=none",
]
LINES = [
    "one two three four five six seven\n",
    "seven six five four three two one\n",
    "the ends meet, öfter ab und zu\n",
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))


def write(path, lines):
    path.write_text("".join(LINES[index % 3] for index in range(lines)), "utf-8")
    return path


@pytest.fixture
def text(tmp_path):
    return write(tmp_path / "text.txt", 150)


@pytest.fixture
def short_text(tmp_path):
    """For what does not depend on how well a model learned: 35 steps an epoch."""
    return write(tmp_path / "short.txt", 52)


def configured(text, *overrides):
    return seqlab.compose([*FAST, f"task.data={text}", *overrides])


@pytest.mark.parametrize("overrides", [(), ("model.conv=4", "model.block=prenorm_mlp", "model.depth=2")])
def test_every_test_token_is_scored_once_with_the_state_carried(text, tmp_path, overrides):
    """Against one pass of the loaded model over the whole test split, in one batch."""
    result = seqlab.run(configured(text, *overrides), tmp_path / "run")
    trained = seqlab.load(tmp_path / "run")
    held_out = text.read_bytes()[-result.record["data"]["test"]["bytes"] :].decode()
    newline = trained.preprocessor.encode(["\n"]).values
    ids = torch.cat([newline, trained.preprocessor.encode([held_out]).values])
    with torch.inference_mode():
        outputs, _ = trained.model(Batch(ids[None, :-1], None, torch.empty(0)))
    nats = torch.nn.functional.cross_entropy(outputs[0].double(), ids[1:], reduction="sum").item()
    assert result.record["data"]["test"]["tokens"] == len(held_out)
    assert result.metrics["loss"] == pytest.approx(nats / len(held_out), rel=1e-5)
    assert result.metrics["perplexity"] == pytest.approx(math.exp(nats / len(held_out)), rel=1e-5)
    assert result.metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(held_out.encode()), rel=1e-5)
    assert result.metrics["perplexity"] < 0.5 * result.chance["perplexity"]
    table = result.record["tables"]["loss_by_position"]
    assert [row["tokens_before"] for row in table] == list(range(10))
    assert (tmp_path / "run" / "loss_by_position.png").stat().st_size > 5_000
    splits = result.record["data"]
    assert sum(split["bytes"] for split in splits.values()) == text.stat().st_size
    assert result.record["generates"]
    assert splits["test"]["share_unknown"] == 0


def test_the_state_is_carried_from_batch_to_batch_and_starts_fresh(short_text, tmp_path, monkeypatch):
    seen = []
    outputs = SequenceModule._outputs

    def watched(self, batch):
        seen.append((self.trainer.training, self.current_epoch, self._state is None))
        return outputs(self, batch)

    monkeypatch.setattr(SequenceModule, "_outputs", watched)
    seqlab.run(configured(short_text, "trainer.max_epochs=2"), tmp_path / "run")
    for epoch in (0, 1):
        fresh = [none for training, at, none in seen if training and at == epoch]
        assert fresh[0]
        assert not any(fresh[1:])


@pytest.mark.parametrize("at", [pytest.param((1, 0), marks=pytest.mark.long), (2, 7)])
def test_a_resumed_run_equals_the_uninterrupted_one(short_text, tmp_path, at):
    overrides = ["model.dropout=0.3", "model.depth=2", "optimizer=sgd", "optimizer.schedule=plateau"]
    overrides += ["optimizer.lr=30.0"]  # too large: the rate falls at once
    seqlab.run(configured(short_text, *overrides), tmp_path / "whole")
    with interrupted(*at):
        seqlab.run(configured(short_text, *overrides), tmp_path / "cut")
    seqlab.run(configured(short_text, *overrides, "ckpt_path=last"), tmp_path / "cut")
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))


def test_a_run_in_bfloat16_resumes_within_an_epoch(short_text, tmp_path, monkeypatch):
    """The carried state is float32, and the checkpoint restores it as such."""
    overrides = ["trainer.precision=bf16-mixed", "model.dropout=0.3", "model.depth=2", "trainer.max_epochs=2"]
    overrides += ["trainer.limit_train_batches=10", "model.conv=3", "model.block=prenorm"]
    seqlab.run(configured(short_text, *overrides), tmp_path / "whole")
    outputs, states = SequenceModule._outputs, []

    def watched(self, batch):
        states.append(self._state)
        return outputs(self, batch)

    with monkeypatch.context() as patch, interrupted(1, 7):
        patch.setattr(SequenceModule, "_outputs", watched)
        seqlab.run(configured(short_text, *overrides, "trainer.checkpoint_minutes=0"), tmp_path / "cut")
    assert {value.dtype for state in states for value in state_tensors(state)} == {torch.float32}
    seqlab.run(configured(short_text, *overrides, "ckpt_path=last"), tmp_path / "cut")
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))


def test_the_rate_falls_on_a_plateau(short_text, tmp_path, monkeypatch):
    """Steps too small to change a float32 weight leave validation where it is, from the first epoch on."""
    rates = []
    before = SequenceModule.on_before_optimizer_step

    def watched(self, optimizer):
        before(self, optimizer)
        rates.append((self.current_epoch, optimizer.param_groups[0]["lr"]))

    monkeypatch.setattr(SequenceModule, "on_before_optimizer_step", watched)
    plateau = ["optimizer=sgd", "optimizer.schedule=plateau", "optimizer.decay=0.25", "optimizer.lr=1e-30"]
    plateau += ["trainer.max_epochs=4", "trainer.early_stopping=null"]
    seqlab.run(configured(short_text, *plateau), tmp_path / "run")
    assert sorted(set(rates)) == [(0, 1e-30), (1, 1e-30), (2, 1e-30 / 4), (3, 1e-30 / 16)]


def test_an_adaptive_softmax_is_trained_and_saved(text, tmp_path):
    """With clusters cut so that the hidden size is the vocabulary's."""
    size = 2 + len(set(text.read_text("utf-8")))  # padding and unknown
    overrides = ["task.adaptive=[5,11]", f"cell.hidden_size={size}", "trainer.max_epochs=4"]
    result = seqlab.run(configured(text, *overrides), tmp_path / "run")
    assert result.metrics["perplexity"] < 0.5 * result.chance["perplexity"]
    assert "".join(generate(seqlab.load(tmp_path / "run"), "one two", length=5, temperature=0))


def test_generation_continues_the_training_text(text, tmp_path):
    seqlab.run(configured(text, "cell.hidden_size=48", "trainer.max_epochs=4"), tmp_path / "run")
    trained = seqlab.load(tmp_path / "run")
    written = "".join(generate(trained, "one two", length=27, temperature=0))
    assert written.startswith(" three four five six seven")
    drawn = ["".join(generate(trained, "", length=40, seed=seed, temperature=3.0)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 40
    (answer,) = trained.predict(["one tw"], top=1)
    assert answer[0]["label"] == "o"
    for options, message in (
        ({"length": 0}, "length must be >= 1, got 0"),
        ({"temperature": -1.0}, "temperature must be >= 0, got -1"),
        ({"top_k": 0}, "top-k must be >= 1, got 0"),
    ):
        with pytest.raises(UserError, match=message):
            list(generate(trained, **options))


@pytest.mark.parametrize("preprocessing", ["words", "bpe"])
def test_words_and_byte_pairs_are_decoded_to_text(text, tmp_path, preprocessing):
    extra = ["preprocessing.end_of_line=true"] if preprocessing == "words" else ["preprocessing.vocabulary_size=300"]
    overrides = [f"preprocessing={preprocessing}", "cell.hidden_size=32", "optimizer.lr=0.05", "trainer.max_epochs=8"]
    overrides += extra
    seqlab.run(configured(text, *overrides), tmp_path / "run")
    written = "".join(generate(seqlab.load(tmp_path / "run"), "one two", length=4, temperature=0))
    assert written.startswith(" three four five")


def test_a_model_without_parameters_is_only_validated_and_tested(text, tmp_path):
    result = seqlab.run(configured(text, "model=ngram", "model.order=4"), tmp_path / "run")
    assert result.cost["epochs"] == 0
    assert result.cost["parameters"] == 0
    assert result.metrics["perplexity"] < 2
    trained = seqlab.load(tmp_path / "run")
    assert "".join(generate(trained, "one two th", length=9, temperature=0)) == "ree four "


def test_tied_weights_are_one_and_survive_the_run_folder(short_text, tmp_path):
    tied = ["model.tied=true", "model.embedding_size=16", "model.init_range=0.1", "trainer.max_epochs=1"]
    seqlab.run(configured(short_text, *tied), tmp_path / "run")
    model = seqlab.load(tmp_path / "run").model
    assert model.head.weight.data_ptr() == model.encoder.weight.data_ptr()
    with pytest.raises(UserError, match=r"tied=true needs equal sizes: .* set model.embedding_size=16"):
        seqlab.run(configured(short_text, "model.tied=true"), tmp_path / "other")


def test_generate_needs_a_language_model(names_run, tmp_path):
    with pytest.raises(UserError, match="predicts no next token"):
        next(generate(seqlab.load(names_run)))


@pytest.fixture
def names_run(names_folder, tmp_path):
    quick = ["task=names", f"task.data_dir={names_folder}", "trainer.max_epochs=1", "cell.hidden_size=4"]
    seqlab.run(seqlab.compose([*quick, "logger=none", "trainer.progress=false"]), tmp_path / "names")
    return tmp_path / "names"


def test_a_text_shorter_than_a_window_is_named(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("ab\n" * 40, "utf-8")
    with pytest.raises(
        UserError, match=r"the valid split has \d+ tokens, fewer than one window of task.sequence_length"
    ):
        seqlab.run(configured(path, "task.sequence_length=50"), tmp_path / "run")
