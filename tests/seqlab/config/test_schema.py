"""Schema of the keys outside plugins: against the config files, torch.optim, and records of old runs."""

import copy
import math
from typing import get_type_hints

import pytest
import torch
from omegaconf import OmegaConf

import seqlab
import seqlab_conf
from seqlab import UserError
from seqlab.config.schema import Data, Optimizer, Run, Trainer, plain_config, with_defaults
from seqlab.training.optimizers import make_optimizer

CONF = next(iter(seqlab_conf.__path__))


@pytest.fixture(scope="module")
def plain():
    return plain_config(seqlab.compose(["logger=none"]))


def changed(plain, path, value):
    config = copy.deepcopy(plain)
    *outer, last = path.split(".")
    node = config
    for key in outer:
        node = node[key]
    node[last] = value
    return config


@pytest.mark.parametrize(("schema", "file"), [(Trainer, "trainer/default"), (Data, "data/default"), (Run, "config")])
def test_schema_and_file_have_the_same_keys_and_defaults(schema, file):
    written = OmegaConf.to_container(OmegaConf.load(f"{CONF}/{file}.yaml"), resolve=False)
    written = {key: written[key] for key in written if schema is not Run or key in get_type_hints(Run)}
    assert set(get_type_hints(schema)) == set(written)
    groups = {"trainer": {"max_epochs": 1}, "data": {}, **{key: {} for key in ("task", "model", "cell", "kernel")}}
    filled = with_defaults({**groups, "optimizer": {}, "logger": {}})
    filled = {Trainer: filled["trainer"], Data: filled["data"], Run: filled}[schema]
    for key, value in written.items():
        assert key in ("max_epochs", "batch_size") or filled[key] == value, key  # by the task


@pytest.mark.parametrize("name", ["adamw", "sgd", "nt_asgd"])
def test_keys_of_optimizer_files_are_in_the_schema(name):
    config = seqlab.compose([f"optimizer={name}"])
    common = set(get_type_hints(Optimizer))
    own = {"adamw": {"betas"}}.get(name, {"momentum"})
    assert set(config.optimizer) - common == own


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adamw", {"betas": [0.5, 0.6], "eps": 1e-6, "amsgrad": True}),
        ("adam", {"betas": [0.5, 0.6], "foreach": False}),
        ("sgd", {"momentum": 0.5, "dampening": 0.0, "nesterov": True}),
        ("rmsprop", {"momentum": 0.5, "alpha": 0.9, "eps": 1e-6, "centered": True}),
    ],
)
def test_torch_has_the_keys_of_each_optimizer(plain, name, options):
    """Each key reaches torch.optim with the same name and value."""
    config = changed(plain, "optimizer", {"name": name, "lr": 0.1, "weight_decay": 0.25, **options})
    node = plain_config(config)["optimizer"]
    made = make_optimizer(node, [torch.nn.Parameter(torch.ones(2, 2))])
    for key, value in {**options, "lr": 0.1, "weight_decay": 0.25}.items():
        assert made.param_groups[0][key] == (tuple(value) if isinstance(value, list) else value)


def test_the_config_of_an_earlier_release_gets_defaults(plain):
    old = copy.deepcopy(plain)
    for key in ("skip_nonfinite", "stop_when_solved", "threads", "checkpoint_minutes", "num_nodes"):
        del old["trainer"][key]
    del old["init_from"], old["freeze"]
    assert plain_config(old) == plain


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("trainer.max_epoch", 3, "trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?"),
        ("trainer.early_stopping", 0, "trainer.early_stopping must be >= 1 or null (never), got 0"),
        ("trainer.gradient_clip_val", 0, "trainer.gradient_clip_val must be > 0 or null (no clipping), got 0"),
        ("trainer.limit_val_batches", 0, "trainer.limit_val_batches must be"),
        ("trainer.limit_val_batches", 2.0, "trainer.limit_val_batches must be"),
        ("trainer.max_epochs", None, "trainer.max_epochs=null needs trainer.max_steps"),
        ("optimizer.momentum", 0.9, "optimizer.momentum: optimizer.name=adamw has no such key"),
        ("optimizer.maximize", True, "optimizer.maximize: there is no such key"),
        ("optimizer.lr", math.nan, "optimizer.lr must be a number >= 0, got nan"),
        ("logger.project", "x", "logger.project: logger.name=none has no such key; wandb has one"),
        ("seeds", 3, "seeds: there is no such key; did you mean seed?"),
        ("cell.hidden_size", 1.5, "cell.hidden_size must be an integer, got 1.5"),
        ("cell.hidden_size", True, "cell.hidden_size must be an integer, got true"),
        ("model.dropout", math.nan, "model.dropout must be a number, got nan"),
        ("model.hidden", 3, "model.hidden: there is no such key; did you mean cell.hidden_size?"),
        ("experiment", {"trainer": {"max_epochs": 1}}, "must begin with the line # @package _global_"),
        ("callbacks", {"x": {"name": "gradient_flow", "every": True}}, "callbacks.x.every must be an integer"),
        ("task", None, "the config has no task"),
    ],
)  # fmt: skip
def test_mistakes_from_python_are_one_line_before_the_folder_is_created(plain, tmp_path, path, value, said):
    with pytest.raises(UserError) as caught:
        seqlab.run(changed(plain, path, value), tmp_path / "run")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_compose_checks_like_run():
    for word in ("+foo=1", "+trainer.val_check_interval=0.5", "optimizer.lr=true", "~trainer.threads", "trainer=null"):
        with pytest.raises(UserError, match=r"^.+$"):
            seqlab.compose([word])
