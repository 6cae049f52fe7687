"""The script of the board of cells: its list, and its figure."""

from pathlib import Path

import pytest

from seqlab.plugins.registry import plugins


@pytest.fixture
def board(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import cell_board

    return cell_board


def test_every_built_in_cell_is_on_the_board(board):
    """With five of torchrecurrent, in folders of their own."""
    names = [cell.split()[0] for cell in board.CELLS]
    built_in = {name for name, plugin in plugins("cell").items() if plugin.distribution == "seqlab"}
    assert set(names) == built_in
    assert names.count("torchrecurrent") == 5
    assert len(set(map(board.name_of, board.CELLS))) == len(board.CELLS)


def test_a_figure_with_missing_scores_is_drawn(board, tmp_path):
    table, figure = tmp_path / "board.csv", tmp_path / "new" / "board.png"
    table.write_text(
        'cell,mean_rank,reach: first,"reach: first, low",cost: speed\na,1,32,16,2\nb,2,,,1\nc,3,8,8,1\n', "utf-8"
    )
    board.draw(table, figure)
    assert figure.read_bytes().startswith(b"\x89PNG")
