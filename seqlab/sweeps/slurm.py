"""What seqlab asks of SLURM: which jobs are still there, and to do one again."""

import logging
import shutil
import subprocess

log = logging.getLogger("seqlab")


def active() -> set[str]:
    """List one's own jobs that wait or run, such as ``17`` and ``18_3``; none where there is no SLURM."""
    if shutil.which("squeue") is None:
        return set()
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("squeue does not answer (%s); jobs that wait are not known", type(error).__name__)
        return set()
    return set(found.stdout.split())


def requeue(job: str) -> bool:
    """Put a job, such as this one, back into the queue; say whether SLURM did."""
    if shutil.which("scontrol") is None:
        return False
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        log.warning("scontrol requeue %s: %s", job, done.stderr.strip() or done.returncode)
    return done.returncode == 0
