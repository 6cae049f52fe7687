"""cell=fused_lstm is cell=lstm with kernel=fused."""

import pytest

from seqlab import UserError, compose
from seqlab.config.schema import plain_config
from seqlab.plugins.config import choices, expand_pinned, pinned_parts, plugin_classes
from seqlab_cells.lstm import LSTM


def test_parts_of_a_pinned_cell() -> None:
    assert pinned_parts("fused_lstm") == ("lstm", "fused")
    assert plugin_classes("cell", "fused_lstm") == [LSTM]
    assert {"lstm", "fused_lstm", "fused_gru", "fused_rnn"} <= set(choices("cell"))


def test_record_has_cell_and_kernel() -> None:
    plain = plain_config(compose(["cell=fused_lstm", "cell.hidden_size=9"]))
    assert plain["cell"] == {**plain_config(compose(["cell=lstm", "cell.hidden_size=9"]))["cell"]}
    assert plain["kernel"]["name"] == "fused"


def test_kernel_options_may_be_set() -> None:
    plain = plain_config(compose(["cell=fused_gru", "kernel=fused", "kernel.save=recompute"]))
    assert (plain["cell"]["name"], plain["kernel"]["save"]) == ("gru", "recompute")


def test_another_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="cell=fused_gru is cell=gru with kernel=fused; for kernel=vendor set"):
        plain_config(compose(["cell=fused_gru", "kernel=vendor"]))


def test_other_cells_are_unchanged() -> None:
    config = {"cell": {"name": "lstm"}, "kernel": {"name": "auto"}}
    assert expand_pinned(config) == config
