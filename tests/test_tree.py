"""What holds for every file of the tree: it fits on a few screens, its functions on one, and an ignore has a reason."""

import ast
import re
import subprocess
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 500, 40

LONG_FILES = {
    "plugins/seqlab_cells/fused/scan.cpp": "one translation unit: the compiler is handed one file",
}
LONG_FUNCTIONS = {
    ("plugins/seqlab_cells/gpu/scan.py", "forward"): "a Triton kernel is one function",
    ("plugins/seqlab_cells/gpu/scan.py", "backward"): "a Triton kernel is one function",
    ("plugins/seqlab_models/recurrent.py", "__init__"): "a line for each key of the config, twice",
}
"""The exceptions, each with its reason."""

IGNORE = re.compile(r"# *(?:ruff: *)?(?:noqa|type: *ignore|pragma: *no)")
WITH_REASON = re.compile(
    r"# (?:(?:ruff: )?noqa: [A-Z]+\d+(?:, [A-Z]+\d+)*|type: ignore\[[a-z, -]+\]|pragma: no (?:cover|branch))  # \w"
)


def sources(*suffixes: str) -> list[str]:
    """The files that git knows, those to be added included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *(f"*{suffix}" for suffix in suffixes)]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def long_files() -> set[str]:
    return {name for name in sources(".py", ".cpp") if (ROOT / name).read_text("utf-8").count("\n") > LONGEST_FILE}


def long_functions() -> set[tuple[str, str]]:
    return {
        (name, node.name)
        for name in sources(".py")
        for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    }


def test_files_are_short() -> None:
    """The exceptions are no more and no less than the files that are longer."""
    assert long_files() == set(LONG_FILES)


def test_functions_fit_on_a_screen() -> None:
    """The exceptions are no more and no less than the functions that are longer."""
    assert long_functions() == set(LONG_FUNCTIONS)


def test_every_ignore_has_its_reason() -> None:
    """On the line, behind the rule that is ignored."""
    bare = [
        f"{name}:{number}"
        for name in sources(".py")
        if name != Path(__file__).relative_to(ROOT).as_posix()
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), start=1)
        if IGNORE.search(line) and not WITH_REASON.search(line)
    ]
    assert bare == []


def test_one_module_imports_the_internals_of_hydra() -> None:
    internal = re.compile(r"\bhydra\._internal\b")
    found = [name for name in sources(".py") if internal.search((ROOT / name).read_text("utf-8"))]
    own = Path(__file__).relative_to(ROOT).as_posix()
    assert [Path(name).name for name in found if name != own] == ["hydra_internals.py"]


MOST_MODULES = 16
"""Modules side by side in one folder, without ``__init__.py``."""


def test_no_folder_holds_too_many_modules() -> None:
    rooms = Counter(Path(name).parent for name in sources(".py") if name.startswith(("seqlab/", "plugins/")))
    inits = {Path(name).parent for name in sources(".py") if name.endswith("/__init__.py")}
    assert {str(room): count for room, count in rooms.items() if count - (room in inits) > MOST_MODULES} == {}


def test_no_modules_import_one_another() -> None:
    """Imports inside functions count; those for types alone do not."""
    families = [path.name for path in (ROOT / "plugins").glob("seqlab_*")]
    shared = ("hydra_plugins.seqlab_sweeps", "hydra_ledger", "hydra_plugins.hydra_ledger")
    graph = grimp.build_graph("seqlab", *families, *shared, exclude_type_checking_imports=True, cache_dir=None)
    sorter = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    sorter.prepare()  # raises CycleError, which names the modules


def test_a_cycle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "turning"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("import turning.two\n")
    (package / "two.py").write_text("def late():\n    from turning import one\n    return one\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    graph = grimp.build_graph("turning", exclude_type_checking_imports=True, cache_dir=None)
    with pytest.raises(CycleError):
        TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
