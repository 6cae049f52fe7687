"""Runs of ``trainer.replicas``: a sweep over seeds that are trained together."""

from collections.abc import Sequence

from seqlab.cli.arguments import folder_value
from seqlab.errors import UserError
from seqlab.io.formatting import hydra_override
from seqlab.sweeps.overrides import override_key

_KEY = "trainer.replicas"


def replica_overrides(overrides: Sequence[str]) -> list[str] | None:
    """Return the overrides of the sweep that ``trainer.replicas=N`` stands for; ``None`` for a single run.

    Raises:
        UserError: the command also names a checkpoint.
    """
    keys = list(map(override_key, overrides))
    if not {_KEY, "trainer", "experiment"} & set(keys):
        return None
    from seqlab.config.compose import check_run

    config = check_run(overrides)
    count, seed = config.trainer.replicas, config.seed
    if count == 1:
        return None
    if config.ckpt_path is not None:
        raise UserError(f"ckpt_path must be null with {_KEY}={count}; the same command resumes its runs")
    dropped = {_KEY, "seed", "hydra.run.dir", "hydra.sweep.dir"}
    kept = [word for word, key in zip(overrides, keys, strict=True) if key not in dropped]
    if (folder := folder_value(overrides, "hydra.run.dir")) is not None:
        kept.append(hydra_override("hydra.sweep.dir", str(folder)))
    seeds = ",".join(str(seed + number) for number in range(count))
    return [*kept, f"{_KEY}=1", f"seed={seeds}", "hydra.sweeper.group_replicas=true"]
