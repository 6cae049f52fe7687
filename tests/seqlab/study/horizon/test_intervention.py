"""What is proposed can be typed: it is the same search for one row, with one thing changed."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import seqlab
from seqlab.plugins import find, plugins
from seqlab.study.horizon.results import intervention
from seqlab.study.horizon.rows import rows_of
from seqlab.study.horizon.runner import SearchRunner
from seqlab.study.horizon.search import Finding
from seqlab.study.horizon.settings import Settings, read_settings

FOUND = Finding(horizon=8, rate=0.01, lower=7, upper=20, complete=True)


def proposed(words, cause, **settings):
    """Propose for the first row; gives the row, the text, and the row of the command."""
    typed = [word for word in words if not word.startswith("hydra")]
    conductor = SearchRunner("", words, typed, read_settings(settings), launch=None)
    row = conductor.lines[0].row
    made = intervention(row, cause, FOUND, conductor)
    if made is None:
        return row, None, None
    python, module, seqlab_, flag, *again = shlex.split(made["command"])
    assert (python, module, seqlab_, flag) == ("python", "-m", "seqlab", "-m")
    hydra = OverridesParser.create().parse_overrides([word for word in again if word.startswith("hydra.sweeper.")])
    changed = {word.key_or_group.rpartition(".")[2]: word.value() for word in hydra}
    (other,) = rows_of([word for word in again if not word.startswith("hydra")], read_settings(settings | changed))
    return row, made["text"], other


def test_an_rnn_may_become_an_irnn():
    words = ["hydra/sweeper=horizon", "cell=rnn,lstm", "task=first", "hydra.sweeper.start=5"]
    row, text, other = proposed(words, "gradient")
    assert "IRNN" in text
    assert (row.config.cell.initialisation, other.config.cell.initialisation) == ("torch", "identity")
    assert other.config.cell.name == "rnn"


def test_an_lstm_may_begin_with_a_memory_of_the_distance():
    _, text, other = proposed(["cell=lstm", "task=first"], "saturation")
    assert "forget bias" in text
    assert other.config.cell.forget_bias == pytest.approx(3.0)  # ln 20


def test_a_row_of_an_experiment_is_picked_by_its_label():
    rows = {"small": ["cell=gru", "cell.hidden_size=5"], "large": ["cell=gru", "cell.hidden_size=50"]}
    _, _, other = proposed(["task=first"], "capacity", rows=rows)
    assert (other.label, other.hidden_size) == ("small", 10)


def test_what_has_no_remedy_trains_longer_and_what_has_no_limit_is_left():
    row, text, other = proposed(["cell=gru", "task=first"], "gradient")
    assert "training" in text
    assert other.config.trainer.max_epochs == 4 * row.config.trainer.max_epochs
    assert proposed(["cell=gru", "task=first"], "none")[1] is None


@pytest.mark.parametrize("name", plugins("cell"))
def test_a_cell_takes_its_own_remedy_and_then_has_no_other(name):
    target = find("cell", name).load()
    remedy = target.remedy("gradient", 50, {})
    if remedy is not None:
        assert isinstance(target(3, 4, **remedy.options), seqlab.Cell)
        assert target.remedy("gradient", 50, remedy.options) is None


def test_the_settings_of_the_file_are_the_defaults():
    """The config says to people what the code has where nothing is said."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from seqlab.config.compose import configs

    with configs():
        loader = GlobalHydra.instance().config_loader()
        composed = loader.load_configuration("config", ["hydra/sweeper=horizon"], RunMode.MULTIRUN)
    assert read_settings(composed.hydra.sweeper) == Settings()
