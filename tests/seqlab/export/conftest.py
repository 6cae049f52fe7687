"""Exporting traces with sizes that are no numbers, which the shape checks of the tests do not know."""

import sys
from pathlib import Path

import pytest

MGU = Path(__file__).resolve().parents[3] / "plugins" / "examples" / "seqlab-mgu"


@pytest.fixture(autouse=True)
def unchecked(no_shape_checks):
    """All of them trace."""


@pytest.fixture
def mgu(monkeypatch):
    """A stranger's cell, which has no routine and no kernel."""
    monkeypatch.syspath_prepend(str(MGU))
    yield __import__("seqlab_mgu").MGU
    sys.modules.pop("seqlab_mgu", None)
