"""The bound of the comparison: a sound file that rounds differently passes at any scale, a wrong one is refused."""

import copy

import pytest
import torch
from torch import nn

from seqlab import InputSpec, UserError
from seqlab.export.compare import FLOOR, compare_outputs
from seqlab.export.formats import PaddedModel
from seqlab.training.verification import MULTIPLE
from seqlab_cells.gru import GRU
from seqlab_cells.layer_norm_lstm import LayerNormLSTM
from seqlab_cells.lstm import LSTM
from seqlab_models.recurrent import RecurrentModel

from .test_formats import exported
from .test_formats import model as trained

TOKENS = InputSpec("tokens", 60)


def model(cell=LayerNormLSTM, scale=1.0, depth=2):
    torch.manual_seed(0)
    made = RecurrentModel(
        TOKENS,
        lambda features: nn.Linear(features, 5),
        False,
        lambda size: cell(size, 32),
        "auto",
        depth=depth,
        bidirectional=True,
    )
    with torch.no_grad():
        for parameter in made.head.parameters():
            parameter.mul_(scale)
    return made.eval()


def rounded_otherwise(made):
    """Compute as a sound export might: the same function, rounded at other places (here once, from float64)."""
    wide = PaddedModel(copy.deepcopy(made).double())
    return lambda inputs, lengths: wide(inputs, lengths).float()


def test_a_sound_file_of_an_unstable_network_passes():
    """Layer norm multiplies rounding errors over 500 steps far beyond 1e-5, where no two float32 programs agree."""
    made = model()
    found = compare_outputs(made, TOKENS, rounded_otherwise(made))
    rows = {row.steps: row for row in found.rows}
    assert rows[500].difference > 1e-4 > 1e-5 > rows[7].difference
    for row in found.rows:  # this file is the float64 one, so that its difference is the run's rounding error itself
        assert row.rounding == pytest.approx(row.difference, rel=0.05)
        assert row.allowed == pytest.approx(max(FLOOR * row.largest_output, MULTIPLE * row.rounding))
    assert rows[1].allowed < 3e-5


@pytest.mark.parametrize("scale", [1e-4, pytest.param(1e3, marks=pytest.mark.slow)])
def test_the_bound_follows_the_scale_of_the_outputs(scale):
    """Outputs a thousand times as large may differ by a thousand times as much, small ones by as much less."""
    made, plain = model(GRU, scale, 1), model(GRU, 1.0, 1)
    found, expected = (compare_outputs(each, TOKENS, rounded_otherwise(each)) for each in (made, plain))
    for row, other in zip(found.rows, expected.rows, strict=True):
        assert row.allowed == pytest.approx(scale * other.allowed, rel=0.2)


def swapped_gates(made):
    for name, value in made.named_parameters():
        if "from_input" in name and "weight" in name:
            value.copy_(value.roll(32, 0))


def swapped_directions(made):
    for layer in made.recurrent.layers:
        forward, backward = layer.children()
        kept = copy.deepcopy(forward.state_dict())
        forward.load_state_dict(backward.state_dict())
        backward.load_state_dict(kept)


def swapped_layers(made):
    first, second = (next(layer.children()).from_state for layer in made.recurrent.layers)
    kept = copy.deepcopy(first.state_dict())
    first.load_state_dict(second.state_dict())
    second.load_state_dict(kept)


def one_weight_off(made):
    made.head.weight[0, 0] *= 1.01


def one_direction_lost(made):
    made.head.weight[:, 32:] = 0


WRONG = [swapped_gates, swapped_directions, swapped_layers, one_weight_off, one_direction_lost]


@pytest.mark.parametrize("scale", [1e-4, 1, 1e3])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("cell", [LSTM, LayerNormLSTM])
def test_a_wrong_file_is_refused(cell, wrong, scale):
    made = model(cell, scale)
    other = copy.deepcopy(made)
    with torch.no_grad():
        wrong(other)
    with pytest.raises(UserError, match=r"differs from the run by .*rounding error.*nothing was written"):
        compare_outputs(made, TOKENS, PaddedModel(other))


def test_rows_that_ignore_their_lengths_are_refused():
    made = model()
    whole = PaddedModel(made)
    with pytest.raises(UserError, match="differs from the run by"):
        compare_outputs(made, TOKENS, lambda inputs, lengths: whole(inputs, torch.full_like(lengths, inputs.shape[1])))


class Noisy(nn.Module):
    """A model that draws random numbers: float32 and float64 draw different ones."""

    carries_state = False

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return self.scale * torch.randn(len(batch.inputs), 32, dtype=self.scale.dtype), None


def test_a_run_that_does_not_agree_with_itself_proves_nothing():
    with pytest.raises(UserError, match=r"the run differs from its own computation in float64 .* nothing was written"):
        compare_outputs(Noisy(), TOKENS, PaddedModel(Noisy()))


class NoNumber(nn.Module):
    carries_state = False

    def forward(self, batch):
        return torch.full((len(batch.inputs), 2), torch.nan), None


def test_outputs_that_are_not_finite_are_named():
    with pytest.raises(UserError, match="the run's outputs are not finite on 1 rows of up to 1 steps"):
        compare_outputs(NoNumber(), TOKENS, PaddedModel(NoNumber()))


@pytest.mark.slow
def test_a_two_way_layer_norm_lstm_can_be_exported(tmp_path):
    exported(trained(lambda size: LayerNormLSTM(size, 32), TOKENS), "onnx", tmp_path, TOKENS)
