"""What the tests of several packages share: data to train on, and distributions of others."""

import shutil
import sys

import pytest

import seqlab
from seqlab.plugins import plugins

from .resumable import FAST, write_names


@pytest.fixture
def names_folder(tmp_path):
    """Three invented languages that can be told apart, in a folder of text files."""
    return write_names(tmp_path / "tongues")


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Write a distribution's metadata and modules where Python finds them."""
    written = []

    def write(name, entry_points, modules=None, version="1.0"):
        folder = tmp_path / name
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
        (info / "entry_points.txt").write_text(entry_points, "utf-8")
        for module, source in (modules or {}).items():
            (folder / f"{module}.py").write_text(source, "utf-8")
            written.append(module)
        monkeypatch.syspath_prepend(str(folder))
        plugins.cache_clear()

    yield write
    plugins.cache_clear()
    for module in written:
        sys.modules.pop(module, None)


@pytest.fixture
def small_data(names_folder, tmp_path, monkeypatch):
    """Give the override that names the data of each task; the cache is this test's own."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven\nseven six five four three two one\n" * 14, "utf-8")
    return {"names": f"task.data_dir={names_folder}", "lm": f"task.data={text}"}


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """A folder with data, and a run of two epochs on them."""
    folder = tmp_path_factory.mktemp("made")
    write_names(folder / "names")
    config = seqlab.compose([*FAST, f"task.data_dir={folder / 'names'}", "trainer.max_epochs=2"])
    seqlab.run(config, folder / "run")
    return folder


@pytest.fixture
def base(two_epochs, tmp_path):
    """A copy of the run that a test may change; the data stay where they are."""
    shutil.copytree(two_epochs / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def resume_config(two_epochs):
    def configure(*words, data=two_epochs / "names"):
        return seqlab.compose([*FAST, f"task.data_dir={data}", "trainer.max_epochs=3", "ckpt_path=last", *words])

    return configure
