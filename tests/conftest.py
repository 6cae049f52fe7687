"""Shapes are checked while tests run, not while people do."""

import gc

from jaxtyping import install_import_hook

gc.set_threshold(10_000, 50, 50)  # as the command line does
# Before anything imports them. JAXTYPING_DISABLE=1 leaves the checks out: torch.compile cannot see through them.
install_import_hook(["seqlab.contracts", "seqlab.recurrence", "seqlab_cells"], "beartype.beartype")

import os  # noqa: E402  # behind the hook above

import torch  # noqa: E402  # behind the hook above
from hypothesis import settings  # noqa: E402  # behind the hook above

# The same examples each time: a commit fails by its own doing. make verify-long tries many new ones.
settings.register_profile("seqlab", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("new", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("seqlab")

# Which kernel kernel=auto takes must not depend on what other tests have compiled.
os.environ.setdefault("SEQLAB_COMPILE", "never")

# Tensors here are tiny: a second thread only waits, and under xdist the workers fight (14 s for 83 s).
torch.set_num_threads(1)
