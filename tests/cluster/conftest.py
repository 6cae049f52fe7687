"""A SLURM for the tests of this folder."""

import os
import signal

import pytest

from . import loopback


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """One node of two cores, for the whole session, which a signal ends in order."""
    if reason := loopback.missing():
        pytest.skip(reason)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("stopped by SIGTERM", returncode=143))
    made = loopback.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        os.environ["SLURM_CONF"] = made.environment["SLURM_CONF"]
        yield made
    finally:
        os.environ.pop("SLURM_CONF", None)
        made.stop()
        signal.signal(signal.SIGTERM, before)
