"""Configs of runs, composed with a cache, equal those of Hydra."""

import pickle

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from hydra_plugins.seqlab_sweeps._jobs import CachingLoader, with_cache
from seqlab.sweeps.start import register
from seqlab.training.compose import configs

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*is validated against ConfigStore schema")  # of Hydra's launcher

RUNS = [
    ["cell=gru", "seed=1", "model.depth=2"],
    ["cell=gru", "seed=2", "model.depth=3", "hydra.job.name=x"],
    ["experiment=horizon_quick", "cell=lstm", "task=adding", "task.sequence_length=9", "optimizer.lr=0.02", "seed=3"],
    ["experiment=horizon_quick", "cell=lstm", "task=adding", "task.sequence_length=8", "optimizer.lr=0.02", "seed=4"],
    ["+extra.key=1", "~trainer.early_stopping", "callbacks=[gradient_flow]", "init_from='a b'"],
]


@pytest.fixture
def loader():
    register()
    with configs():
        yield GlobalHydra.instance().config_loader()


def test_each_config_equals_that_of_hydra(loader):
    typed = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=runs/x", "seed=0,1"]
    master = loader.load_configuration("config", typed, RunMode.MULTIRUN)
    for words in [*RUNS, *RUNS]:
        # A loader arrives anew with every run of another process.
        shared = pickle.loads(pickle.dumps(with_cache(HydraContext(loader, None)).config_loader))
        whole, made = loader.load_sweep_config(master, list(words)), shared.load_sweep_config(master, words)
        assert OmegaConf.to_container(made) == OmegaConf.to_container(whole)
        assert OmegaConf.is_struct(made) == OmegaConf.is_struct(whole)


def test_a_context_is_wrapped_once(loader):
    once = with_cache(HydraContext(loader, None))
    assert isinstance(once.config_loader, CachingLoader)
    assert with_cache(once) is once
