"""Old import paths and names work, and the warning names the new one."""

import importlib
import sys

import pytest

from seqlab._deprecated import MODULES


@pytest.mark.parametrize(("old", "new"), MODULES.items())
def test_a_moved_module_is_found_and_its_new_name_told(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        found = importlib.import_module(old)
    public = next(name for name in vars(importlib.import_module(new)) if not name.startswith("_"))
    assert getattr(found, public) is getattr(importlib.import_module(new), public)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("seqlab.recurrence", "alive", "valid_mask"),
        ("seqlab.recurrence", "leaves", "state_tensors"),
        ("seqlab.recurrence", "refill", "fill_state"),
        ("seqlab.recurrence.wrappers", "Around", "LayerWrapper"),
        ("seqlab.study.plotting", "dress", "label_axes"),
        ("seqlab.study.plotting", "save", "save_figure"),
    ],
)
def test_a_renamed_object_is_found_and_its_new_name_told(module, old, new):
    home = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=new) as told:
        assert getattr(home, old) is getattr(home, new)
    assert told[0].filename == __file__


def test_a_name_that_never_was_is_no_attribute():
    with pytest.raises(AttributeError, match="nonesuch"):
        importlib.import_module("seqlab.recurrence").nonesuch  # noqa: B018  # the access is what is tested
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("seqlab.training.nonesuch")
