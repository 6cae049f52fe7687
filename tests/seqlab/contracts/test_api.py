"""Size of the contracts, and plugins written for plugin API 1."""

import sys
import warnings
from pathlib import Path

import pytest

import seqlab
from seqlab.contracts import task as tasks
from seqlab.contracts.task import task_defaults
from seqlab.plugins import find
from seqlab.plugins.exports import exported_model, standalone_encoder
from seqlab.testing import TaskSuite, run_suite

OLD_PLUGIN = Path(__file__).parents[2] / "golden" / "old_plugin"
EXTENSIONS = ["ReportingTask", "ClassificationTask", "GeneratedTask", "StatefulTask", "LanguageTask"]


@pytest.mark.parametrize("name", ["Cell", "Kernel", "Model", "Preprocessor", "Task", *EXTENSIONS])
def test_a_contract_has_at_most_12_public_members(name):
    contract = getattr(seqlab, name)
    members = {*vars(contract), *vars(contract).get("__annotations__", {})}
    assert len([member for member in members if not member.startswith("_")]) <= 12


@pytest.fixture
def old_plugin(distribution, monkeypatch):
    """Install the distribution written for plugin API 1; return its task and the warnings of importing it."""
    monkeypatch.syspath_prepend(str(OLD_PLUGIN))
    distribution(
        "seqlab-old",
        "[seqlab.cells]\nold_cell = seqlab_old.cell:OldCell\n"
        "[seqlab.kernels]\nold_cell.old_kernel = seqlab_old.cell:OldKernel\n"
        "[seqlab.tasks]\nold_task = seqlab_old.task:OldTask\n"
        "[seqlab.preprocessing]\nold_preprocessing = seqlab_old.preprocessing:OldPreprocessing\n",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = find("task", "old_task").load()
        find("kernel", "old_cell.old_kernel").load()
    yield task, [str(each.message) for each in caught if each.category is DeprecationWarning]
    for module in [name for name in sys.modules if name.startswith("seqlab_old")]:
        del sys.modules[module]


def test_an_old_plugin_is_told_each_change(old_plugin):
    _, (line, of_kernel) = old_plugin
    for change in (
        "seqlab_old.task.OldTask is written for plugin API 1",
        "rename blind_outputs to baseline_outputs",
        "class OldTask(..., preprocessing='characters', sequence_length_means='maximum')",
        "derive from seqlab.ClassificationTask, seqlab.GeneratedTask",
    ):
        assert change in line
    assert "OldKernel is written for plugin API 1, which is deprecated: rename postpones to defer_reason" in of_kernel


def test_an_old_plugin_trains_and_passes_the_conformance_tests(old_plugin, tmp_path):
    class Old(TaskSuite):
        task, _ = old_plugin

    assert {outcome.result for outcome in run_suite(Old, "baseline")} == {"passed"}
    plugins = ["cell=old_cell", "kernel=old_kernel", "task=old_task", "preprocessing=old_preprocessing"]
    quick = ["cell.hidden_size=4", "trainer.max_epochs=1", "trainer.threads=1", "trainer.progress=false", "logger=none"]
    result = seqlab.run(seqlab.compose([*plugins, *quick]), tmp_path / "run")
    assert result.record["chance"]["test"]["accuracy"] > 0.4
    assert len(seqlab.load(tmp_path / "run").predict(["a b a"])[0]) == 2


OLD_TASKS = [
    ({"carries_state": True, "per_step": True}, "LanguageTask"),
    ({"carries_state": True}, "StatefulTask"),
    ({"solved": lambda self, metrics: True}, "GeneratedTask"),
    ({"sample_weights": lambda self: None}, "ClassificationTask"),
    ({"derived": lambda self, metrics, statistics: {}}, "ReportingTask"),
]


@pytest.mark.parametrize(("members", "extension"), OLD_TASKS, ids=[extension for _, extension in OLD_TASKS])
def test_an_old_task_gets_the_extension_that_its_members_need(members, extension):
    with pytest.warns(DeprecationWarning, match=f"derive from seqlab.{extension}$"):
        old = type("Old", (seqlab.Task,), members)
    assert issubclass(old, getattr(seqlab, extension))
    assert old.per_step is (extension == "LanguageTask")


def test_class_attributes_of_an_old_task_are_its_defaults():
    with pytest.warns(DeprecationWarning, match="replace class attributes by keywords"):
        old = type("Old", (seqlab.Task,), {"preprocessing": "words", "max_epochs": 3, "presets": {"data": "text"}})
    assert task_defaults(old) == tasks.TaskDefaults("words", {"data": "text"}, 3, "maximum")


def test_defaults_are_inherited_one_by_one():
    class Base(seqlab.GeneratedTask, preprocessing="words", max_epochs=3):
        pass

    class Derived(Base, max_epochs=5):
        pass

    assert task_defaults(Derived) == tasks.TaskDefaults("words", {}, 5, "distance")
    with pytest.raises(TypeError, match="epochs"):
        type("Wrong", (seqlab.Task,), {}, epochs=3)


def test_export_methods_of_old_plugins_are_called():
    class Old:
        def unexportable(self):
            return "it cannot"

        def standalone(self):
            return {"encode.py": ""}

    new = object()
    for ask, answer, default in (
        (exported_model, "it cannot", new),
        (standalone_encoder, {"encode.py": ""}, None),
    ):
        with pytest.warns(DeprecationWarning, match=r"call seqlab\.register_export\(Old, Old\."):
            assert ask(Old()) == answer
        assert ask(new) is default
