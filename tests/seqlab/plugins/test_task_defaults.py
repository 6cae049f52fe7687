"""Defaults of other plugins that a task chooses, and what a run records of them."""

import json

import pytest
from omegaconf import OmegaConf

import seqlab
from seqlab.config.schema import plain_config
from seqlab.plugins import plugins
from seqlab.plugins.config import checked_arguments, node, plugin_classes
from seqlab.plugins.task_defaults import chosen_by_task, defaults_of
from seqlab.sweeps.plan import run_key

CHOSEN = {
    "model.pooling": "mean", "model.input_dropout": 0.25, "model.embedding_std": 0.1, "preprocessing.steps": ["lower"],
}  # fmt: skip
TASK = f"""
import torch
from seqlab import Examples
from seqlab_tasks.classification import Classification

class Own(
    Classification,
    preprocessing="words",
    of_model={{"recurrent": {CHOSEN} | {{"model.depth": 3, "optimizer.lr": 1.0}}}},
    of_source={{"public": {{"model.pooling": "max"}}}},
):
    def __init__(self, source: str = "own", data: str | None = None, sequence_length: int | None = None) -> None:
        super().__init__(sequence_length, "none", 1.0, 0.0)

    def splits(self):
        texts, targets = ["One two", "three Four five"] * 8, torch.tensor([0, 1] * 8)
        self.set_classes(["a", "b"], targets)
        return {{split: Examples(texts, targets) for split in ("train", "valid", "test")}}
"""
SMALL = ["task=own", "cell.hidden_size=4", "logger=none", "trainer.progress=false", "trainer.threads=1"]


@pytest.fixture
def own_task(distribution):
    distribution("own-task", "[seqlab.tasks]\nown = own_task:Own\n", {"own_task": TASK})


def test_a_task_chooses_what_nobody_set(own_task):
    """Options that the plugin does not offer, and keys of no plugin, keep their defaults."""
    config = seqlab.compose(["task=own"])
    assert chosen_by_task(config) == CHOSEN
    plain, usual = plain_config(config), plain_config(seqlab.compose(["task=names", "preprocessing=words"]))
    assert plain["model"] == usual["model"] | {"pooling": "mean", "input_dropout": 0.25, "embedding_std": 0.1}
    assert plain["preprocessing"] == usual["preprocessing"] | {"steps": ["lower"]}
    assert plain["optimizer"] == usual["optimizer"]


def test_the_source_goes_before_the_model_unless_the_data_are_ones_own(own_task):
    public = seqlab.compose(["task=own", "task.source=public"])
    assert chosen_by_task(public) == CHOSEN | {"model.pooling": "max"}
    assert public.model.pooling == "max"
    assert seqlab.compose(["task=own", "task.source=public", "task.data=mine.csv"]).model.pooling == "mean"


@pytest.mark.parametrize("model", ["tcn", "bow", "attention"])
def test_other_models_keep_their_defaults(own_task, model):
    found = [seqlab.compose([f"task={task}", "preprocessing=words", f"model={model}"]) for task in ("own", "names")]
    assert [chosen_by_task(each) for each in found] == [{}, {}]
    assert [plain_config(each)["model"] for each in found] == [plain_config(found[1])["model"]] * 2


@pytest.mark.parametrize(
    ("override", "value"),
    [("model.pooling=last", "last"), ("model.pooling=mean", "mean"), ("preprocessing.steps=[]", [])],
)
def test_a_value_that_was_set_wins_and_is_not_the_task_s(own_task, override, value):
    config, key = seqlab.compose(["task=own", override]), override.partition("=")[0]
    group, option = key.split(".")
    assert plain_config(config)[group][option] == value
    assert chosen_by_task(config) == {name: each for name, each in CHOSEN.items() if name != key}


def test_a_run_with_the_same_values_has_the_same_key(own_task):
    """Who chose a value is not part of what is computed."""
    chosen = seqlab.compose(["task=own"])
    typed = seqlab.compose(
        [
            "task=own",
            "model.pooling=mean",
            "model.input_dropout=0.25",
            "model.embedding_std=0.1",
            "preprocessing.steps=[lower]",
        ]
    )
    assert chosen_by_task(typed) == {}
    assert run_key(chosen) == run_key(typed)
    assert run_key(chosen) != run_key(seqlab.compose(["task=own", "model.pooling=last"]))


@pytest.mark.parametrize("preprocessing", ["bpe", "characters"])
def test_an_option_that_the_preprocessing_does_not_have_is_not_chosen(preprocessing):
    chosen = chosen_by_task(seqlab.compose(["task=textclf", f"preprocessing={preprocessing}"]))
    options = seqlab.compose([f"preprocessing={preprocessing}"]).preprocessing
    assert {key for key in chosen if key.startswith("preprocessing.")} <= {f"preprocessing.{key}" for key in options}
    assert any(key.startswith("model.") for key in chosen)


def test_a_run_records_which_values_the_task_chose(own_task, tmp_path):
    words = [*SMALL, "task.sequence_length=2", "trainer.max_epochs=1", "model.pooling=last"]
    seqlab.run(seqlab.compose(words), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    assert record["chosen_by_task"] == ["model.embedding_std", "model.input_dropout", "preprocessing.steps"]
    assert record["config"]["model"]["pooling"] == "last"
    assert record["config"]["preprocessing"]["steps"] == ["lower"]


def test_a_resumed_run_keeps_what_the_task_of_its_release_chose(own_task, tmp_path):
    """The recorded config of another release has other values for the same command."""
    before = seqlab.compose([*SMALL, "trainer.max_epochs=1", "model.pooling=max", "preprocessing.steps=[]"])
    seqlab.run(before, tmp_path / "run")
    words = [*SMALL, "trainer.max_epochs=2", "ckpt_path=last"]
    seqlab.run(seqlab.compose(words), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    assert (record["config"]["model"]["pooling"], record["config"]["preprocessing"]["steps"]) == ("max", [])
    with pytest.raises(seqlab.UserError, match=r"model\.pooling"):
        seqlab.run(seqlab.compose([*words, "trainer.max_epochs=3", "model.pooling=mean"]), tmp_path / "run")


@pytest.mark.parametrize("task", plugins("task"))
def test_what_installed_tasks_propose_exists_and_is_valid(task):
    defaults = defaults_of(task)
    for proposed in (*defaults.of_model.values(), *defaults.of_source.values()):
        assert {key.partition(".")[0] for key in proposed} <= {"model", "preprocessing"}
    for model, proposed in defaults.of_model.items():
        assert proposed.keys() == offered(proposed, {"model": [model], "preprocessing": plugins("preprocessing")})
    for proposed in defaults.of_source.values():
        assert proposed.keys() == offered(proposed, {kind: plugins(kind) for kind in ("model", "preprocessing")})


def offered(proposed, names):
    """Return the keys that some of these plugins lets a task choose; the values are checked."""
    found = set()
    for kind, name in ((each, name) for each in names for name in names[each]):
        (target,) = plugin_classes(kind, name)
        own = {option: proposed[f"{kind}.{option}"] for option in target.from_task if f"{kind}.{option}" in proposed}
        checked_arguments(kind, OmegaConf.to_container(node(kind, name)) | own)
        found |= {f"{kind}.{option}" for option in own}
    return found
