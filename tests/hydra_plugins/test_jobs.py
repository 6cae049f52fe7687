"""Configs of runs, composed with a cache, equal those of Hydra."""

import pickle

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from joblib.externals.loky.backend.reduction import dumps
from omegaconf import OmegaConf

from hydra_plugins.seqlab_sweeps._jobs import CachingLoader, with_cache
from seqlab.config.compose import configs
from seqlab.sweeps.plan import register_run_name

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*is validated against ConfigStore schema")  # of Hydra's launcher

LAUNCHER = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SWEEPS = {
    "basic": (
        ["seed=0,1"],
        [
            ["cell=gru", "seed=1", "model.depth=2"],
            ["cell=gru", "seed=2", "model.depth=3", "hydra.job.name=x"],
            ["+extra.key=1", "~trainer.early_stopping", "callbacks=[gradient_flow]", "init_from='a b'"],
        ],
    ),
    "horizon": (
        ["experiment=horizon_quick"],
        [
            ["experiment=horizon_quick", "cell=lstm", "task=adding", f"task.sequence_length={n}", "optimizer.lr=0.02"]
            for n in (9, 8)
        ],
    ),
}
"""Overrides of a sweep, and of its runs."""


@pytest.fixture
def loader():
    register_run_name()
    with configs():
        yield GlobalHydra.instance().config_loader()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_each_config_equals_that_of_hydra(loader, sweep):
    overrides, runs = SWEEPS[sweep]
    master = loader.load_configuration(
        "config", [*LAUNCHER, f"hydra.sweep.dir=runs/{sweep}", *overrides], RunMode.MULTIRUN
    )
    for run in [*runs, *runs]:
        # Every run of another process brings a new loader, as joblib sends it.
        cached = pickle.loads(dumps(with_cache(HydraContext(loader, None)).config_loader))
        expected, composed = loader.load_sweep_config(master, list(run)), cached.load_sweep_config(master, run)
        assert OmegaConf.to_container(composed) == OmegaConf.to_container(expected)
        assert OmegaConf.is_struct(composed) == OmegaConf.is_struct(expected)


def test_a_context_is_wrapped_once(loader):
    once = with_cache(HydraContext(loader, None))
    assert isinstance(once.config_loader, CachingLoader)
    assert with_cache(once) is once
