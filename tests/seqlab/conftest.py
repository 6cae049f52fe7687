"""What the tests of several packages share: data to train on, and distributions of others."""

import shutil
import sys

import jaxtyping
import pytest

import seqlab
from seqlab.plugins import plugins

from .resumable import FAST, write_names


@pytest.fixture
def names_folder(tmp_path):
    """Three invented languages that can be told apart, in a folder of text files."""
    folder = tmp_path / "tongues"
    folder.mkdir()
    syllables = {
        "Aaish": ["aa", "ba", "na", "la"],
        "Ooish": ["oo", "bo", "no", "lo"],
        "Eeish": ["ee", "be", "ne", "le"],
    }
    for language, parts in syllables.items():
        names = {(a + b + c).capitalize() for a in parts for b in parts for c in parts}
        (folder / f"{language}.txt").write_text("\n".join(sorted(names)) + "\n", "utf-8")
    return folder


@pytest.fixture
def no_shape_checks():
    """Tracing goes by sizes that are no numbers, which the shape checks of the tests do not know."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


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
def resume_config(two_epochs):
    def configure(*words, data=two_epochs / "names"):
        return seqlab.compose([*FAST, f"task.data_dir={data}", "trainer.max_epochs=3", "ckpt_path=last", *words])

    return configure
