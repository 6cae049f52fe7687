"""Global state of the process, which a run sets and leaves as it found it."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_SEEDS = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""What Lightning's ``seed_everything`` puts into the environment."""


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore the number of threads, the default dtype and the random generators of Python, NumPy and torch."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    python, numpy = random.getstate(), np.random.get_state()
    environment = {name: os.environ.get(name) for name in _SEEDS}
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        random.setstate(python)
        np.random.set_state(numpy)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
