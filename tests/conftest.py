"""Shapes are checked while tests run, not while people do."""

import os

from jaxtyping import install_import_hook

# Before anything imports them. JAXTYPING_DISABLE=1 leaves the checks out: torch.compile cannot see through them.
install_import_hook(["seqlab.contracts", "seqlab.recurrence", "seqlab_cells"], "beartype.beartype")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("seqlab", deadline=None, max_examples=25, print_blob=True)
settings.load_profile("seqlab")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
