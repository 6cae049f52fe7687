"""Small data for runs."""

import pytest


@pytest.fixture
def small_data(names_folder, tmp_path, monkeypatch):
    """Give the override that names the data of each task; the cache is this test's own."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven\nseven six five four three two one\n" * 80, "utf-8")
    return {"names": f"task.data_dir={names_folder}", "lm": f"task.data={text}"}
