"""Composition again: the config of Hydra, from what the process composed before."""

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import seqlab
from seqlab.config.compose import _compose, compose_full
from seqlab.plugins.hydra_internals import to_yaml

RUNS = {
    "values": ["task=names", "cell=gru", "cell.hidden_size=12", "optimizer.lr=0.02", "seed=3"],
    "presets": ["task=lm", "preprocessing=words", "preprocessing.min_count=2"],
    "added": ["+callbacks=gradient_flow", "++trainer.max_steps=7"],
    "experiment": ["experiment=horizon_quick", "task=first", "task.sequence_length=9", "trainer.max_epochs=2"],
    "interpolation": ["trainer.max_epochs=${seed}", "seed=4", "model.depth=2"],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_config_is_that_of_hydra(name):
    """First composed, then from the same choices, then with other values."""
    for more in ([], [], ["seed=11"]):
        found, expected = seqlab.compose([*RUNS[name], *more]), _compose([*RUNS[name], *more])
        assert found == expected
        assert OmegaConf.to_container(found, resolve=False) == OmegaConf.to_container(expected, resolve=False)
        assert OmegaConf.to_container(found, resolve=True) == OmegaConf.to_container(expected, resolve=True)


def test_a_config_can_be_changed_without_changing_the_next():
    first = seqlab.compose(["cell=gru"])
    first.cell.hidden_size = 999
    first.model.depth = 7
    second = seqlab.compose(["cell=gru"])
    assert (second.cell.hidden_size, second.model.depth) != (999, 7)


def test_a_config_that_is_stored_again_is_read_again():
    """As in a notebook, in Hydra's own way to register one."""
    store = ConfigStore.instance()
    try:
        for epochs in (3, 5):
            node = {"trainer": {"max_epochs": epochs}}
            store.repo.get("experiment", {}).pop("stored.yaml", None)  # Hydra 1.4 warns of a collision
            store.store(group="experiment", name="stored", package="_global_", node=node)
            assert seqlab.compose(["experiment=stored"]).trainer.max_epochs == epochs
    finally:
        del store.repo["experiment"]


def test_errors_are_those_of_hydra():
    for wrong in (["cell=gru", "cell.nonsense=3"], ["cell=nonsense"], ["seed=1", "nonsense=2"]):
        for _ in range(2):
            with pytest.raises(Exception, match="nonsense") as ours:
                seqlab.compose(wrong)
            with pytest.raises(type(ours.value)) as theirs:
                seqlab.config.schema.plain_config(_compose(wrong))
            assert str(ours.value) == str(theirs.value)


def test_yaml_reads_back_as_that_of_omegaconf():
    full = compose_full(["task=names", "cell=gru"])
    tricky = OmegaConf.create(
        {"a": "1e3", "b": "no", "c": "007", "d": ["", None, "null"], "e": "ü\n x", "f": "x" * 200}
    )
    for config in (full, tricky):
        ours, theirs = (OmegaConf.create(write(config)) for write in (to_yaml, OmegaConf.to_yaml))
        assert OmegaConf.to_container(ours) == OmegaConf.to_container(theirs) == OmegaConf.to_container(config)
