"""The Python blocks of a page print what it shows and draw its figures."""

from pathlib import Path

import pytest

import seqlab
from blocks import PICTURE, differs, expected, outputs

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [
    "learn/rnn.md", "learn/vanishing.md", "learn/lstm.md", "learn/names.md", "explain/kernels.md",
    "do/drop_in.md",
]  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_of_a_page_print_what_it_says(name, tmp_path):
    page = (DOCS / name).read_text("utf-8")
    pairs = list(zip(expected(page), outputs(page, tmp_path), strict=True))
    for number, ((said, about), printed) in enumerate(pairs, start=1):
        if said or name.startswith("learn/"):
            assert not differs(said, printed, about=about), f"block {number} of {name} printed\n{printed}"
    for picture in PICTURE.findall(page):
        assert (tmp_path / picture).stat().st_size > 1000
        assert (DOCS / name).with_name(picture).is_file(), f"run docs/_ext/blocks.py docs/{name}"
    assert {path.name for path in tmp_path.glob("*.svg")} == set(PICTURE.findall(page))


@pytest.mark.slow
@pytest.mark.parametrize("distance", [15, pytest.param(40, marks=pytest.mark.long)])
def test_an_lstm_learns_over_the_distances_of_the_page_at_its_defaults(distance, tmp_path):
    """With 8 symbols: the majority-class baseline is 1/8."""
    overrides = ["cell=lstm", "task=first", f"task.sequence_length={distance}", "trainer.stop_when_solved=1"]
    config = seqlab.compose([*overrides, "trainer.threads=1", "trainer.progress=false", "logger=none"])
    result = seqlab.run(config, tmp_path / "run")
    assert result.verdict == "solved"
    assert result.metrics["accuracy"] > 0.99


def test_a_wrong_figure_would_be_seen():
    assert differs("0.5\n", "0.6\n", about=False)
    assert not differs("about 0.5\n", "about 0.55\n", about=True)
    assert differs("about 0.5\n", "about 0.7\n", about=True)
    assert differs("about 0.5\n", "near 0.5\n", about=True)
