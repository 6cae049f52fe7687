"""Runs of a sweep in groups that are trained together."""

import pytest

from hydra_plugins.seqlab_sweeps._groups import grouped
from seqlab.cli.replicas import replica_overrides
from seqlab.errors import UserError


def test_groups_differ_in_seed_rate_and_initialisation_only():
    runs = [
        [f"cell={cell}", f"seed={seed}", f"optimizer.lr={rate}"] for cell in ("gru", "lstm") for seed in (0, 1)
        for rate in (0.1, 0.2)
    ]  # fmt: skip
    assert grouped(runs) == [runs[:4], runs[4:]]
    assert [len(group) for group in grouped(runs, 4)] == [2, 2, 2, 2], "one for each process"
    assert [run for group in grouped(runs, 3) for run in group] == runs
    assert grouped([["a=1"], ["seed=1", "a=2"], ["a=1", "seed=1"]]) == [
        [["a=1"], ["a=1", "seed=1"]],
        [["seed=1", "a=2"]],
    ]


def test_replicas_are_a_sweep_over_seeds():
    given = ["task=adding", "seed=7", "trainer.replicas=3", "hydra.run.dir=here"]
    found = replica_overrides(given)
    assert found is not None
    assert {"task=adding", "seed=7,8,9", "trainer.replicas=1", "hydra.sweeper.group_replicas=true"} <= set(found)
    assert "hydra.sweep.dir=here" in found
    assert "hydra.run.dir=here" not in found
    assert replica_overrides(["task=adding", "trainer.max_epochs=3"]) is None
    with pytest.raises(UserError, match=r"ckpt_path must be null with trainer\.replicas=3"):
        replica_overrides([*given, "ckpt_path=best"])
