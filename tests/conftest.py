"""Shapes are checked while tests run, not while people do."""

import gc
from collections.abc import Iterator

import jaxtyping

gc.set_threshold(10_000, 50, 50)  # as the command line does
# Before anything imports them. JAXTYPING_DISABLE=1 leaves the checks out: torch.compile cannot see through them.
jaxtyping.install_import_hook(["seqlab.contracts", "seqlab.recurrence", "seqlab_cells"], "beartype.beartype")

import os  # noqa: E402  # behind the hook above

import pytest  # noqa: E402  # behind the hook above
import torch  # noqa: E402  # behind the hook above
from hypothesis import settings  # noqa: E402  # behind the hook above

# The same examples each time: a commit fails by its own doing. make verify-long tries many new ones.
settings.register_profile("seqlab", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("new", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("seqlab")

# One process compiles; a pool of others would import torch first, for graphs that are small here.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

# Which kernel kernel=auto takes must not depend on what other tests have compiled.
os.environ.setdefault("SEQLAB_COMPILE", "never")

# Tensors here are tiny: a second thread only waits, and under xdist the workers fight (14 s for 83 s).
torch.set_num_threads(1)


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    """Leave out the shape checks, with which a step takes 1.6 times as long; they do not know the sizes of tracing."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True)
def no_safe_path() -> Iterator[None]:
    """Forget what ``seqlab resume`` sets for its own process, which here is that of the tests after it, too."""
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: workers end together when the last tests are short."""
    slow = {item.path for item in items if item.get_closest_marker("slow") and not item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in slow)
