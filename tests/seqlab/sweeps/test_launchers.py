"""Keys of launchers."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf
from submitit.slurm.slurm import SlurmExecutor

import seqlab_conf
from seqlab.cli.multirun import register_launcher
from seqlab.config.compose import compose_full
from seqlab.errors import UserError
from seqlab.sweeps.launchers import check_plugin
from seqlab.sweeps.overrides import check_file_overrides

FOLDER = Path(seqlab_conf.__file__).parent / "hydra" / "launcher"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_launcher_has_the_keys_of_its_config(name):
    if name == "ray":
        pytest.importorskip("ray")
    node = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"), resolve=False)
    check_plugin("hydra.launcher", node)
    with pytest.raises(UserError, match=r"hydra\.launcher\.n_jobz"):
        check_plugin("hydra.launcher", {**node, "n_jobz": 2})


def test_the_slurm_launcher_has_the_keys_that_submitit_passes_to_sbatch():
    node = {"_target_": "hydra_plugins.seqlab_sweeps._submitit.SlurmLauncher"}
    own = {"job_name", "ntasks_per_node"}  # name and tasks_per_node
    check_plugin("hydra.launcher", node | dict.fromkeys(SlurmExecutor._valid_parameters() - own, "1"))


def test_the_ray_launcher_has_the_keys_of_the_distribution_and_runs_resume_once():
    """``ray.init`` and ``ray.remote``, as hydra-ray-launcher has them."""
    node = compose_full(["hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=1"], RunMode.MULTIRUN).hydra.launcher
    assert node._target_ == "hydra_plugins.seqlab_sweeps._ray.RayLauncher"
    assert node.ray.init.address is None
    assert (node.ray.remote.num_gpus, node.ray.remote.max_retries) == (1, 1)


def test_a_missing_package_is_one_line_with_the_command_that_installs_it():
    if find_spec("ray"):
        pytest.skip("ray is installed")
    with pytest.raises(UserError, match=r"^hydra/launcher=ray: ray is not installed; .pip install [^\n]+$"):
        register_launcher("ray")


def test_a_plan_may_set_what_ray_shares_out_and_not_where_or_what_it_runs():
    kept = ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "hydra.launcher.ray.remote.num_gpus=0.5"]
    check_file_overrides(kept, "plan", "no")
    for word in (
        "hydra.launcher.ray.init.address=192.0.2.1:6379",
        "+hydra.launcher.ray.init.runtime_env={pip: [x]}",
        "+hydra.launcher.ray.remote.runtime_env.py_executable=sh",
        "hydra.launcher.ray={init: {}}",
        "hydra.launcher.num_gpus=1",
        "hydra.launcher.ray.init.num_cpus=5000",
    ):
        with pytest.raises(UserError, match=r"could run code|processes at a time"):
            check_file_overrides([word], "plan", "no")
