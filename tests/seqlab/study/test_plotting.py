"""Colours by name, and lines that differ without them."""

import pytest
from matplotlib.text import Text

from seqlab.plugins import plugins
from seqlab.study import plotting

LUMINANCE = {"light": 1.0, "dark": 0.009}


@pytest.fixture(autouse=True)
def fresh():
    plotting._places.cache_clear()
    yield
    plotting._places.cache_clear()


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_first_word_of_a_label_gives_the_colour():
    given = plotting.styles(["lstm", "lstm hidden_size=3", "rnn", "gru"])
    assert given["lstm"].colour == given["lstm hidden_size=3"].colour
    assert len({given[cell].colour for cell in ("rnn", "lstm", "gru")}) == 3
    for others in (["lstm", "rnn"], ["gru", "lstm"], ["attention", "lstm", "nobody_knows"]):
        assert plotting.styles(others)["lstm"] == plotting.styles(["lstm"])["lstm"]


def test_another_distribution_changes_no_colour(distribution):
    before = {name: plotting.styles([name])[name] for kind in ("cell", "model") for name in plugins(kind)}
    distribution("aa-cells", "[seqlab.cells]\naa = aa:A\n[seqlab.models]\na = aa:B\n")
    plotting._places.cache_clear()
    assert "aa" in plugins("cell")
    assert {name: plotting.styles([name])[name] for name in before} == before


def test_all_labels_of_a_figure_differ():
    cells = [*plugins("cell"), *plugins("model")]
    for labels in (cells, [f"lstm hidden_size={size}" for size in range(20)], [*cells[:3], "gru a=1", "gru a=2"]):
        given = list(plotting.styles(labels).values())
        assert len(set(given)) == len(labels)
        in_grey = {(each.line, each.marker, each.filled) for each in given}
        assert len(in_grey) == len(labels)


@pytest.mark.parametrize("colour", [*plotting.COLOURS, plotting.GREY])
def test_lines_have_contrast_on_light_and_dark(colour):
    found = luminance(colour)
    assert (1.05 / (found + 0.05)) > 2.2
    assert ((found + 0.05) / (LUMINANCE["dark"] + 0.05)) > 3


def test_the_distances_that_were_run_are_the_ticks():
    axes = plotting.new_figure(4, 3).add_subplot()
    plotting.distance_axis(axes, [5, 10, 40])
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_majorticklocs().tolist() == [5, 10, 40]
    axes = plotting.new_figure(4, 3).add_subplot()
    plotting.distance_axis(axes, [0, 1, 2])
    assert axes.get_xscale() == "linear"
    assert plotting._spaced([6, 7, 10, 11, 12, 20, 40], logarithmic=True) == [6, 10, 12, 20, 40]
    assert len(plotting._spaced(list(range(1, 500)), logarithmic=False)) <= 13


def test_a_name_that_is_not_installed_takes_a_free_colour():
    for name in ("IRNN", "mine", "yours", "theirs"):
        given = plotting.styles(["rnn", name, "lstm", "gru"])
        assert len({each.colour for each in given.values()}) == 4
        assert given["lstm"] == plotting.styles(["lstm"])["lstm"]


def test_a_legend_is_never_wider_than_its_figure():
    figure = plotting.new_figure(plotting.WIDTH, 3)
    axes = figure.add_subplot()
    for place in range(7):
        axes.plot([0, 1], [0, place], label=f"lstm a long setting={place} more")
    plotting.legend(figure, axes)
    figure.draw_without_rendering()
    shown = figure.legends[0]
    assert shown.get_window_extent().width <= figure.bbox.width
    assert 1 <= shown._ncols < 3


def test_figures_of_a_column_are_narrow_and_their_fonts_embedded(tmp_path):
    """3.4 inches with text of 5 points or more, as TrueType (42) in the PDF; outside the block as before."""
    with plotting.column_figures():
        narrow = plotting.new_figure(plotting.WIDTH, 4)
        plotting.label_axes(narrow.add_subplot(), "steps", "loss", "title")
        narrow.draw_without_rendering()
        plotting.save_figure(narrow, tmp_path / "narrow.pdf")
    assert narrow.get_size_inches()[0] == pytest.approx(3.4)
    texts = [text for text in narrow.findobj(Text) if text.get_text()]
    assert len(texts) > 4
    assert all(5 <= text.get_fontsize() <= 8 for text in texts)
    content = (tmp_path / "narrow.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert plotting.new_figure(plotting.WIDTH, 4).get_size_inches()[0] == pytest.approx(plotting.WIDTH)
