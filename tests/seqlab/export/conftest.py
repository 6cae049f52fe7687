"""Exporting traces with sizes that are no numbers, which the shape checks of the tests do not know."""

import sys
from pathlib import Path

import pytest

UGRNN = Path(__file__).resolve().parents[3] / "plugins" / "examples" / "seqlab-ugrnn"


@pytest.fixture(autouse=True)
def unchecked(no_shape_checks):
    """All of them trace."""


@pytest.fixture
def ugrnn(monkeypatch):
    """A stranger's cell, which has no routine and no kernel."""
    monkeypatch.syspath_prepend(str(UGRNN))
    yield __import__("seqlab_ugrnn").UGRNN
    sys.modules.pop("seqlab_ugrnn", None)
