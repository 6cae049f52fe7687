"""What the tests of several packages share: data to train on, and distributions of others."""

import sys

import jaxtyping
import pytest

from seqlab.discovery import plugins


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
