"""pyproject.toml, the entry points that are installed, and what is on disk must agree."""

import tomllib
from importlib import import_module
from importlib.metadata import distribution, entry_points, version
from pathlib import Path

import pytest

from seqlab.plugins import GROUPS, KINDS

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DECLARED = {
    (group, name): target
    for group, entries in PYPROJECT["project"]["entry-points"].items()
    for name, target in entries.items()
}


def test_installed_entry_points_are_those_of_pyproject():
    """A new entry point needs a re-install, even of an editable one."""
    installed = {
        (entry.group, entry.name): entry.value
        for entry in distribution("seqlab").entry_points
        if entry.group.startswith("seqlab.")
    }
    assert installed == DECLARED, "run `pip install -e .` again: entry points changed"


def test_every_group_is_one_that_the_registry_reads():
    assert set(PYPROJECT["project"]["entry-points"]) <= set(GROUPS.values())
    assert set(GROUPS) == {*KINDS, "torch"}


@pytest.mark.parametrize(("entry", "target"), DECLARED.items(), ids=lambda value: str(value))
def test_every_entry_point_leads_somewhere(entry, target):
    module, _, attribute = target.partition(":")
    assert hasattr(import_module(module), attribute)


def test_every_plugin_package_is_in_the_wheel_and_every_wheel_package_is_on_disk():
    packages = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    on_disk = {
        str(folder.relative_to(ROOT))
        for parent in ("plugins", "conf")
        for folder in (ROOT / parent).iterdir()
        if folder.is_dir() and folder.name.startswith(("seqlab_", "hydra_plugins"))
    }
    ledger = "plugins/hydra-ledger"
    assert packages == on_disk | {"seqlab", f"{ledger}/hydra_ledger", f"{ledger}/hydra_plugins"}
    for package in packages - {"plugins/hydra_plugins", f"{ledger}/hydra_plugins"}:
        assert (ROOT / package / "py.typed").is_file(), f"{package} has no py.typed"
        assert (ROOT / package / "__init__.py").is_file(), f"{package} has no __init__.py"


def test_each_cell_folder_is_an_entry_point():
    """A cell that is on disk but not declared would be missing from `plugins` without a word."""
    folders = {
        folder.name
        for folder in (ROOT / "plugins" / "seqlab_cells").iterdir()
        if folder.is_dir() and (folder / "cell.py").is_file()
    }
    declared = {
        target.split(":")[0].split(".")[1] for (group, _), target in DECLARED.items() if group == "seqlab.cells"
    }
    assert folders <= declared


def test_kernels_are_named_after_their_cell():
    for entry in entry_points(group="seqlab.kernels"):
        owner, _, name = entry.name.partition(".")
        kernel = entry.load()
        cell = next(iter(entry_points(group="seqlab.cells", name=owner))).load()
        assert kernel.cell is cell
        assert kernel.name == name


def test_the_citation_names_this_version_and_licence():
    lines = (ROOT / "CITATION.cff").read_text("utf-8").splitlines()
    facts = {key: value.strip(' "') for key, found, value in (line.partition(":") for line in lines) if found}
    assert facts["cff-version"] == "1.2.0"
    assert facts["version"] == version("seqlab")
    assert facts["license"] == PYPROJECT["project"]["license"]
    assert {"message", "title", "authors"} <= facts.keys()  # required by the format
