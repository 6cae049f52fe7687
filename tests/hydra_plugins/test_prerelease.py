"""The newest pre-releases of Hydra, OmegaConf and Hydra's own plugins, on ``task=names``."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PACKAGES = ["hydra-core", "omegaconf", "hydra-joblib-launcher", "hydra-submitit-launcher", "hydra-optuna-sweeper"]
QUICK = ["task=names", "debug=fdr", "cell.hidden_size=4", "logger=none", "trainer.progress=false", "trainer.threads=1"]
PROGRAM = """
import json, sys
import hydra
from hydra.core.global_hydra import GlobalHydra

assert not hydra.__version__.startswith("1.3")
import seqlab.plugins.hydra_internals
from seqlab.__main__ import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["seqlab", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, words
    GlobalHydra.instance().clear()
    print("END OF COMMAND", flush=True)
"""
"""Commands one after another in one process, which imports torch once."""


@pytest.fixture(scope="module")
def seqlab(tmp_path_factory):
    """Return a function that runs commands with the pre-releases and returns their outputs; no other test sees them."""
    target, folder = tmp_path_factory.mktemp("prerelease"), tmp_path_factory.mktemp("runs")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    done = subprocess.run([*pip, "--pre", "--target", str(target), *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the pre-releases cannot be installed: {done.stderr[-200:]}")
    environment = {**os.environ, "PYTHONPATH": str(target), "TMPDIR": str(folder)}

    def run(*commands):
        words = ["-W", "error::FutureWarning", "-W", "error::UserWarning", "-c", PROGRAM, json.dumps(commands)]
        done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split("END OF COMMAND")

    return run


def sweep(launcher):
    return ["-m", *QUICK, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}", "seed=0,1"]


def test_help_config_a_run_and_sweeps(seqlab):
    commands = [
        ["--help"],
        ["task=names", "--help"],
        [*QUICK, "--cfg", "job"],
        [*QUICK, "model.dropout=0", "optimizer.lr=1"],
        sweep("joblib"),
    ]
    if find_spec("optuna"):
        search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]
        commands.append(["-m", *QUICK, *search, "hydra.sweep.dir=optuna", "optimizer.lr=interval(0.001,0.01)"])
    overview, keys, config, run, *sweeps = seqlab(*commands)
    assert "task" in overview
    assert "task.data_dir" in keys
    assert "hidden_size: 4" in config
    assert "run folder" in run
    assert all("2 runs: 2 done" in out for out in sweeps[: len(commands) - 4])


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_other_launchers(seqlab, launcher):
    assert "2 runs: 2 done" in seqlab(sweep(launcher))[0]
