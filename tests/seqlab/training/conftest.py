"""Small data for runs."""

import shutil

import pytest

import seqlab

from .resumable import FAST, write_names


@pytest.fixture
def small_data(names_folder, tmp_path, monkeypatch):
    """Give the override that names the data of each task; the cache is this test's own."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven\nseven six five four three two one\n" * 80, "utf-8")
    return {"names": f"task.data_dir={names_folder}", "lm": f"task.data={text}"}


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """A folder with data, and a run of two epochs on them."""
    folder = tmp_path_factory.mktemp("made")
    write_names(folder / "names", {"Aaish": "aa ba na la", "Ooish": "oo bo no lo", "Eeish": "ee be ne le"})
    config = seqlab.compose([*FAST, f"task.data_dir={folder / 'names'}", "trainer.max_epochs=2"])
    seqlab.run(config, folder / "run")
    return folder


@pytest.fixture
def base(two_epochs, tmp_path):
    """A copy of the run that a test may change; the data stay where they are."""
    shutil.copytree(two_epochs / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def goes_on(two_epochs):
    def configure(*words, data=two_epochs / "names"):
        return seqlab.compose([*FAST, f"task.data_dir={data}", "trainer.max_epochs=3", "ckpt_path=last", *words])

    return configure
