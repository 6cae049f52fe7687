"""Jobs of SLURM: the one of this process, those in the queue, and requeueing."""

import logging
import os
import shutil
import subprocess

log = logging.getLogger("hydra_ledger")


def job_id() -> str | None:
    """Return the scheduler's name of this job; ``None`` without a scheduler."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    return os.environ.get("SLURM_JOB_ID")


def active_jobs() -> set[str]:
    """List this user's queued and running SLURM jobs, such as ``17`` and ``18_3``; none without SLURM."""
    if shutil.which("squeue") is None:
        return set()
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("squeue does not answer (%s); the queued jobs are unknown", type(error).__name__)
        return set()
    return set(done.stdout.split())


def requeue(job: str) -> bool:
    """Requeue a SLURM job, such as this one; return whether SLURM did."""
    if shutil.which("scontrol") is None:
        return False
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        log.warning("scontrol requeue %s: %s", job, done.stderr.strip() or done.returncode)
    return done.returncode == 0
