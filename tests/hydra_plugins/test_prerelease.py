"""The newest pre-releases of Hydra, OmegaConf and Hydra's own plugins, on ``task=names``."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PACKAGES = ["hydra-core", "omegaconf", "hydra-joblib-launcher", "hydra-submitit-launcher", "hydra-optuna-sweeper"]
QUICK = ["debug=fdr", "cell.hidden_size=4", "logger=none", "trainer.progress=false", "trainer.threads=1"]


@pytest.fixture(scope="module")
def seqlab(tmp_path_factory):
    """Return a function that runs seqlab with the pre-releases, which no other test sees."""
    target, folder = tmp_path_factory.mktemp("prerelease"), tmp_path_factory.mktemp("runs")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    done = subprocess.run([*pip, "--pre", "--target", str(target), *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the pre-releases cannot be installed: {done.stderr[-200:]}")
    environment = {**os.environ, "PYTHONPATH": str(target), "TMPDIR": str(folder)}

    def run(*arguments, program=("-m", "seqlab")):
        command = [sys.executable, "-W", "error::FutureWarning", "-W", "error::UserWarning", *program, *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_is_a_later_version(seqlab):
    version = "import hydra; assert not hydra.__version__.startswith('1.3'); import seqlab.plugins.hydra_internals"
    seqlab(program=("-c", version))


def test_help_config_and_a_run(seqlab):
    assert "task" in seqlab("--help")
    assert "task.data_dir" in seqlab("task=names", "--help")
    assert "hidden_size: 4" in seqlab("task=names", *QUICK, "--cfg", "job")
    assert "run folder" in seqlab("task=names", *QUICK, "model.dropout=0", "optimizer.lr=1")


@pytest.mark.parametrize(
    "launcher",
    [pytest.param("basic", marks=pytest.mark.long), "joblib", pytest.param("submitit_local", marks=pytest.mark.long)],
)
def test_launchers(seqlab, launcher):
    out = seqlab("-m", "task=names", *QUICK, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}", "seed=0,1")
    assert "2 runs: 2 done" in out


def test_optuna(seqlab):
    pytest.importorskip("optuna")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]
    out = seqlab("-m", "task=names", *QUICK, *search, "hydra.sweep.dir=optuna", "optimizer.lr=interval(0.001,0.01)")
    assert "2 runs: 2 done" in out
