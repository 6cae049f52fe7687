"""The notebooks run from their first cell to their last, in an empty folder, and are committed without outputs."""

import json
import os
import re
from pathlib import Path
from unittest.mock import patch

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NAMES = ["student", "practitioner", "researcher", "engineer"]


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def printed(notebook):
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def test_there_is_one_for_each_door_and_the_site_links_it():
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES)
    page = (FOLDER.parent / "start" / "index.md").read_text("utf-8")
    assert re.findall(r"\]\(\.\./notebooks/(\w+)\.ipynb\)", page) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_installs_first_and_has_no_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    first, *others = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "%pip install -q {SOURCE}" in first.source
    assert len(others) >= 3
    assert not any(cell.outputs or cell.execution_count for cell in (first, *others))
    assert "\\u" not in json.dumps(notebook, ensure_ascii=False)


WANTED = {
    "student": r"at chance .*solved",
    "practitioner": r"train with .*gru: test accuracy 1\.000, baseline 0\.\d+\n.*worth it: good",
    "researcher": r"'passed': \d+.*\n\[\]\n.*'SlowFast': (1\.0|0\.9)",
    "engineer": r"words \(LSTM\): replaced\ntags \(GRU\): replaced\n.*the last \d+ of 60 steps",
}
"""What a notebook prints, whatever the machine."""


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks, which imports torch once; each begins without the names of the others."""
    client = nbclient.NotebookClient(nbformat.v4.new_notebook(), kernel_name="python3")
    with patch.dict(os.environ, {"MPLBACKEND": "agg", "JUPYTER_PLATFORM_DIRS": "1", "OMP_NUM_THREADS": "1"}):
        client.create_kernel_manager()
        client.start_new_kernel()
    yield client.km
    client._cleanup_kernel()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, kernel, tmp_path):
    notebook = read(name)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}"))
    client = nbclient.NotebookClient(notebook, km=kernel, timeout=250)
    client.execute()
    client.kc.stop_channels()
    assert re.search(WANTED[name], printed(notebook), re.DOTALL), printed(notebook)
