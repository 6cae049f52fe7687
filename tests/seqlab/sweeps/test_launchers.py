"""Keys of launchers."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from submitit.slurm.slurm import SlurmExecutor

import seqlab_conf
from seqlab.errors import UserError
from seqlab.sweeps.launchers import check_plugin

FOLDER = Path(seqlab_conf.__file__).parent / "hydra" / "launcher"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_launcher_has_the_keys_of_its_config(name):
    node = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"), resolve=False)
    check_plugin("hydra.launcher", node)
    with pytest.raises(UserError, match=r"hydra\.launcher\.n_jobz"):
        check_plugin("hydra.launcher", {**node, "n_jobz": 2})


def test_the_slurm_launcher_has_the_keys_that_submitit_passes_to_sbatch():
    node = {"_target_": "hydra_plugins.seqlab_sweeps._submitit.SlurmLauncher"}
    own = {"job_name", "ntasks_per_node"}  # name and tasks_per_node
    check_plugin("hydra.launcher", node | dict.fromkeys(SlurmExecutor._valid_parameters() - own, "1"))
