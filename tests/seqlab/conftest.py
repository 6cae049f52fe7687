"""Data that several tests of the core train on."""

import pytest


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
