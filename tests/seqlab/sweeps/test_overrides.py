"""Sweep syntax: the expansion equals that of Hydra's basic sweeper with a launcher that records its runs."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import OmegaConf

from seqlab import UserError
from seqlab.config.compose import configs
from seqlab.plugins.hydra_internals import planned_sweeper
from seqlab.sweeps.overrides import expand, expand_each, override_key, split_overrides


class RecordingLauncher:
    def __init__(self):
        self.runs = []

    def launch(self, job_overrides, initial_job_idx):
        self.runs += [list(overrides) for overrides in job_overrides]
        return []


def by_hydra(overrides, params, folder):
    with configs():
        loader = GlobalHydra.instance().config_loader()
        sweeper = planned_sweeper(None, params)
        sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=None)
        sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
        sweeper.launcher = RecordingLauncher()
        sweeper.sweep(list(overrides))
    return sweeper.launcher.runs


SWEPT = [
    ["cell=rnn,gru", "seed=0,1"],
    ["cell=choice(rnn,gru)", "seed=range(0,3)"],
    ["seed=range(3)", "optimizer.lr=range(0.5,2,0.5)"],
    ["cell=glob(*)"],
    ["cell=glob([r*,g*],exclude=*_*)", "seed=1"],
    ["seed=sort(3,1,2)", "cell=sort(gru,rnn,reverse=true)"],
    ["seed=sort(range(1,4),reverse=true)"],
    ["task.data_dir='a,b',c"],
    ["task.data_dir=a\\,b,c"],
    ["task.data_dir='(x),y'", "cell=rnn,gru"],
    ['task.data_dir="a, b",\'c "d"\''],
    ["+x=[1,2],[3,4]", "+y={a:1},{a:2}"],
    ["+x=int(1.0,2.0)", "+y=str(1,2)", "+z=tag(a,b,choice(1,2))"],
    ["seed=1,2", "seed=3"],
    ["seed=3", "seed=choice(1)"],
    ["~logger", "++seed=1,2", "+x=null,true"],
]


@pytest.mark.parametrize("overrides", SWEPT, ids=" ".join)
@pytest.mark.parametrize("params", [{}, {"seed": "7,8", "model.depth": "choice(1,2)"}], ids=["bare", "params"])
def test_a_sweep_is_expanded_as_by_hydra(overrides, params, tmp_path):
    assert expand(overrides, params) == by_hydra(overrides, params, tmp_path)


@pytest.mark.parametrize("overrides", [["seed=shuffle(1,2,3)"], ["seed=shuffle(range(5))"]], ids=" ".join)
def test_a_shuffled_sweep_has_the_same_runs(overrides, tmp_path):
    assert sorted(expand(overrides)) == sorted(by_hydra(overrides, {}, tmp_path))


def test_small_sweeps_by_hand():
    assert len(expand(["seed=range(0,10,3)", "cell=choice(rnn,gru,lstm)"])) == 4 * 3
    assert expand(["x='a,b',c"]) == [["x='a,b'"], ["x=c"]]
    assert expand_each(["seed=1", "cell=rnn,gru", "seed=2,3"]) == [["seed=2", "seed=3"], ["cell=rnn", "cell=gru"]]
    assert [override_key(override) for override in ("+a.b=1", "++c=x=y", "~d", "e@f=g")] == ["a.b", "c", "d", "e@f"]


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("optimizer.lr=interval(0,1)", UserError, "an interval has no list of values; write optimizer.lr=choice"),
        ("seed=range(0,1000000000)", UserError, "more than 100,000 runs"),
        ("seed=sort(range(0,1000000000))", UserError, "more than 100,000 runs"),
        ("seed=range(0,5,0)", UserError, "more than 100,000 runs"),
        ("cell=choice(", HydraException, "choice"),
    ],
)
def test_overrides_without_a_list_of_values_are_refused(override, error, message):
    for expanded in (expand, expand_each):
        with pytest.raises(error, match=message):
            expanded(["cell=rnn", override])


def test_overrides_in_one_text_are_split_outside_quotes():
    text = r"""cell=rnn x='a b' y="it's (1, 2)" z=[1, 2] u=choice(1, 2) v={a: 1} w=a\ b"""
    expected = ["cell=rnn", "x='a b'", 'y="it\'s (1, 2)"', "z=[1, 2]", "u=choice(1, 2)", "v={a: 1}", r"w=a\ b"]
    assert split_overrides(text) == expected
