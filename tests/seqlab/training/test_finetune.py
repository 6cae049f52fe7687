"""Fine-tuning: weights taken from another run, new heads, frozen parts."""

import json
import shutil

import pytest
import torch

import seqlab
from seqlab import UserError

from ..resumable import checkpoint_of, interrupted, record_of, same, weights_of, write_names

FAST = [
    "trainer.max_epochs=2",
    "trainer.early_stopping=null",
    "trainer.progress=false",
    "cell.hidden_size=8",
    "logger=none",
    "data.batch_size=16",
]


def configured(data, *overrides):
    return seqlab.compose([*FAST, f"task.data_dir={data}", *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on three languages, and their folder."""
    folder = tmp_path_factory.mktemp("trained")
    write_names(folder / "names")
    seqlab.run(configured(folder / "names"), folder / "run")
    return folder


@pytest.fixture
def names_folder(trained):
    return trained / "names"


@pytest.fixture
def parent(trained, tmp_path):
    """A copy of the run that a test may delete."""
    return shutil.copytree(trained / "run", tmp_path / "parent")


@pytest.fixture
def other_names(tmp_path):
    """Two other languages, with letters that the three do not have."""
    return write_names(tmp_path / "others", {"Uuish": "uu bu zu lu", "Iiish": "ii bi zi li"})


def initial_weights(config, folder, monkeypatch):
    """The weights with which training begins."""
    from seqlab.training.module import SequenceModule

    seen = {}

    def look(self):
        if not seen:
            seen.update({name: value.clone() for name, value in self.model.state_dict().items()})

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "on_fit_start", look)
        seqlab.run(config, folder)
    return seen


def test_the_same_labels_take_every_weight_and_the_vocabulary(names_folder, parent, tmp_path, monkeypatch):
    initial = initial_weights(
        configured(names_folder, f"init_from={parent}", "seed=4"), tmp_path / "child", monkeypatch
    )
    there = weights_of(parent)
    assert initial.keys() == there.keys()
    assert all(torch.equal(initial[name], there[name]) for name in there)
    origin = record_of(tmp_path / "child")["init_from"]
    assert origin == {"run": str(parent), "taken": list(initial), "new": []}


def test_other_labels_get_a_new_head_and_the_old_vocabulary(parent, other_names, tmp_path, monkeypatch, caplog):
    config = configured(other_names, f"init_from={parent}", "seed=4")
    with caplog.at_level("INFO"):
        initial = initial_weights(config, tmp_path / "child", monkeypatch)
    assert "weights taken: encoder, recurrent; new, as the outputs differ: head" in caplog.text
    there = weights_of(parent)
    assert [name for name in initial if not torch.equal(initial[name], there[name])] == ["head.weight", "head.bias"]
    assert initial["head.weight"].shape == (2, 8)
    assert (tmp_path / "child" / "preprocessor.json").read_bytes() == (parent / "preprocessor.json").read_bytes()
    record = record_of(tmp_path / "child")
    assert record["init_from"]["new"] == ["head.weight", "head.bias"]
    assert record["data"]["train"]["share_unknown"] > 0.2


def test_the_run_folder_predicts_without_the_first_run(parent, other_names, tmp_path):
    seqlab.run(configured(other_names, f"init_from={parent}"), tmp_path / "child")
    shutil.rmtree(parent)
    labels = {answer["label"] for answer in seqlab.load(tmp_path / "child").predict(["Bulubu"])[0]}
    assert labels == {"Uuish", "Iiish"}


def test_a_run_from_good_weights_starts_where_they_were(names_folder, tmp_path):
    learned = ["trainer.max_epochs=12", "optimizer.lr=0.02"]
    seqlab.run(configured(names_folder, *learned), tmp_path / "parent")
    short = ["trainer.max_epochs=1", "optimizer.lr=1e-6"]
    child = seqlab.run(configured(names_folder, *short, f"init_from={tmp_path / 'parent'}"), tmp_path / "child")
    assert child.metrics["accuracy"] > 0.9


@pytest.mark.parametrize("kernel", ["vendor", "loop"])
@pytest.mark.parametrize("parts", [["encoder"], ["encoder", "recurrent"], ["recurrent.layers.0.0.from_input", "head"]])
def test_frozen_parts_stay_exactly_and_the_rest_learns(names_folder, parent, tmp_path, kernel, parts):
    """The optimiser would let weights decay, too, if it had them."""
    overrides = [f"init_from={parent}", f"freeze=[{','.join(parts)}]", f"kernel={kernel}", "optimizer.weight_decay=0.5"]
    seqlab.run(configured(names_folder, *overrides), tmp_path / "child")
    resume = checkpoint_of(tmp_path / "child")["state_dict"]
    for name, value in weights_of(parent).items():
        frozen = any(f"{name}.".startswith(f"{part}.") for part in parts)
        assert torch.equal(resume[f"model.{name}"], value) == frozen, name
    assert record_of(tmp_path / "child")["freeze"] == parts


def test_freezing_needs_no_other_run(names_folder, tmp_path, monkeypatch):
    """Random frozen weights, as in an echo state network."""
    initial = initial_weights(configured(names_folder, "freeze=[recurrent]"), tmp_path / "run", monkeypatch)
    after = weights_of(tmp_path / "run")
    assert {name for name in after if torch.equal(after[name], initial[name])} == {
        name for name in after if name.startswith("recurrent.")
    }


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("[encodr]", r"no parameters in encodr; it has some in encoder, recurrent, head"),
        ("[input_dropout]", r"no parameters in input_dropout; it has some in encoder, recurrent, head"),
        ("[recurrent.layer.0]", r"no parameters in recurrent.layer.0; it has some in recurrent.layers$"),
        ("[recurrent.layers.1]", r"no parameters in recurrent.layers.1; it has some in recurrent.layers.0$"),
        ("[encoder,recurrent,head]", r"nothing is left to train; the model has parameters in encoder, recurrent, head"),
        ("encoder", r"freeze must be a list of strings \(parts of the model\), got encoder"),
        ("[3]", r"freeze must be a list of strings .*, got \[3\]"),
    ],
)
def test_freeze_is_checked(names_folder, tmp_path, freeze, message):
    with pytest.raises(UserError, match=message):
        seqlab.run(configured(names_folder, f"freeze={freeze}"), tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cell=gru", "that run has cell=lstm, and this one cell=gru; they must agree"),
        ("model=bow", "model=bow fits its weights itself"),
        (
            "cell.hidden_size=9",
            r"recurrent\.layers\.0\.\S+ is \[32, .* here.*; set cell.hidden_size=8, as that run has it",
        ),
        ("model.depth=2", r"recurrent\.layers\.1\.\S+ is only here.*set model.depth=1"),
        ("model.input=onehot", r"encoder.weight is only there.*set model.input=embedding"),
    ],
)
def test_weights_that_do_not_fit_are_named(names_folder, parent, tmp_path, override, message):
    with pytest.raises(UserError, match=message) as caught:
        seqlab.run(configured(names_folder, f"init_from={parent}", override), tmp_path / "child")
    assert str(caught.value).startswith(f"init_from={parent}: ")
    assert "\n" not in str(caught.value)


def test_init_from_must_be_a_run(names_folder, tmp_path):
    with pytest.raises(UserError, match="init_from=nowhere: nowhere is no folder"):
        seqlab.run(configured(names_folder, "init_from=nowhere"), tmp_path / "child")
    with pytest.raises(UserError, match=r"init_from must be a string \(the folder of a run\) or null, got 3"):
        seqlab.run(configured(names_folder, "init_from=3"), tmp_path / "child")


def test_a_bag_of_ngrams_takes_its_ngrams_along_or_says_why_not(names_folder, other_names, tmp_path, monkeypatch):
    """Its weights are as many as its n-grams, and all belong to the labels."""
    bow = ["model=bow", "model.solver=optimizer"]
    seqlab.run(configured(names_folder, *bow), tmp_path / "parent")
    start = f"init_from={tmp_path / 'parent'}"
    initial = initial_weights(configured(names_folder, *bow, "task.split_seed=7", start), tmp_path / "a", monkeypatch)
    there = weights_of(tmp_path / "parent")
    assert all(torch.equal(initial[name], there[name]) for name in there)
    with pytest.raises(UserError, match="that run's labels differ, and model=bow has no separate head"):
        seqlab.run(configured(other_names, *bow, start), tmp_path / "b")
    with pytest.raises(UserError, match="model=bow fits its weights itself; remove init_from"):
        seqlab.run(configured(names_folder, "model=bow", start), tmp_path / "c")


def test_a_part_that_the_other_run_lacks_is_new(parent, names_folder, other_names, tmp_path):
    seqlab.run(configured(other_names, f"init_from={parent}", "model.pooling=attention"), tmp_path / "child")
    new = {name.partition(".")[0] for name in record_of(tmp_path / "child")["init_from"]["new"]}
    assert "head" in new
    assert len(new) == 2
    with pytest.raises(UserError, match=r"is only here.*set model.pooling=last"):  # where the outputs are the same
        seqlab.run(configured(names_folder, f"init_from={parent}", "model.pooling=attention"), tmp_path / "same")


def test_a_language_model_becomes_a_classifier(names_folder, tmp_path, monkeypatch):
    """Its vocabulary, encoder and recurrent part go along; tied weights and an unknown letter are no obstacle."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(
        "\n".join(["banana bonobo lolo nebele aana", "noob Aana Bolo Nele"] * 400), "utf-8"
    )
    text = ["task=lm", f"task.data={tmp_path / 'text.txt'}", "task.sequence_length=20", "model.embedding_size=8"]
    lm = seqlab.compose([*FAST, *text, "trainer.max_epochs=1", "model.tied=true"])
    seqlab.run(lm, tmp_path / "lm")
    overrides = [f"init_from={tmp_path / 'lm'}", "freeze=[encoder,recurrent]", "model.embedding_size=8"]
    seqlab.run(configured(names_folder, *overrides), tmp_path / "clf")
    there, here = weights_of(tmp_path / "lm"), weights_of(tmp_path / "clf")
    assert all(torch.equal(here[name], there[name]) for name in here if not name.startswith("head."))
    assert here["head.weight"].shape == (3, 8)
    symbols = [json.loads((tmp_path / name / "preprocessor.json").read_text("utf-8")) for name in ("lm", "clf")]
    assert symbols[0] == symbols[1]
    assert seqlab.load(tmp_path / "clf").predict(["Banana"])[0][0]["label"] in ("Aaish", "Ooish", "Eeish")


def test_a_fine_tuning_run_resumes_exactly_without_the_first_run(other_names, parent, tmp_path):
    overrides = [f"init_from={parent}", "freeze=[encoder]", "trainer.max_epochs=4", "model.dropout=0.3", "seed=3"]
    seqlab.run(configured(other_names, *overrides), tmp_path / "whole")
    with interrupted(2, 1):
        seqlab.run(configured(other_names, *overrides), tmp_path / "cut")
    shutil.rmtree(parent)
    with pytest.raises(UserError, match=r"freeze is .*head.* but the resumed run has freeze=.*encoder"):
        seqlab.run(configured(other_names, *overrides, "ckpt_path=last", "freeze=[head]"), tmp_path / "cut")
    with pytest.raises(UserError, match=r"the resumed run has init_from=.*parent; set it again"):
        seqlab.run(configured(other_names, *overrides[1:], "ckpt_path=last"), tmp_path / "cut")
    seqlab.run(configured(other_names, *overrides, "ckpt_path=last"), tmp_path / "cut")
    whole, cut = record_of(tmp_path / "whole"), record_of(tmp_path / "cut")
    assert whole["metrics"] == cut["metrics"]
    assert whole["init_from"] == cut["init_from"]
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))
