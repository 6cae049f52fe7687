"""The course of the learning rate from epoch to epoch."""

import pytest

from seqlab import UserError
from seqlab.training.optimizers import EpochDecay


def test_decay_begins_after_the_epochs_it_waits():
    """Zaremba et al. 2014: four epochs at 1, then halved in each."""
    decay = EpochDecay({"schedule": "decay", "decay": 0.5, "decay_after": 4}, "min")
    found = []
    for epoch in range(7):
        decay.begin(epoch)
        found.append(decay.factor)
    assert found == [1, 1, 1, 1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_plateau_falls_where_nothing_gets_better(mode, sign):
    decay = EpochDecay({"schedule": "plateau", "decay": 0.1, "patience": 1}, mode)
    found = []
    for metric in (5, 4, 4.5, 4.2, 3, 3, 3, 2):
        decay.end(sign * metric)
        found.append(round(decay.factor, 6))
    assert found == [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]
    again = EpochDecay({"schedule": "plateau", "decay": 0.1, "patience": 1}, mode)
    again.load_state_dict(decay.state_dict())
    decay.end(sign * 2)
    again.end(sign * 2)
    assert again.state_dict() == decay.state_dict()


def test_a_factor_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"optimizer.decay is 2; it must be above 0 and at most 1"):
        EpochDecay({"schedule": "decay", "decay": 2}, "min")
