"""Sweep syntax: our expansion is that of Hydra's basic sweeper, run for itself with a launcher that only notes."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import OmegaConf

from seqlab import UserError
from seqlab.config.compose import configs
from seqlab.plugins.hydra_internals import planned_sweeper
from seqlab.study.horizon.rows import rows_of
from seqlab.study.horizon.settings import Settings, read_settings
from seqlab.sweeps.ledger import read_plan
from seqlab.sweeps.overrides import choices, expand, key_of, split_overrides
from seqlab.sweeps.plan import params_of, plan


class Noting:
    """A launcher that keeps what it is asked for."""

    def __init__(self):
        self.runs = []

    def launch(self, job_overrides, initial_job_idx):
        self.runs += [list(words) for words in job_overrides]
        return []


def by_hydra(words, params, folder):
    with configs():
        loader = GlobalHydra.instance().config_loader()
        sweeper = planned_sweeper(None, params)
        sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=None)
        sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
        sweeper.launcher = Noting()
        sweeper.sweep(list(words))
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


@pytest.mark.parametrize("words", SWEPT, ids=" ".join)
@pytest.mark.parametrize("params", [{}, {"seed": "7,8", "model.depth": "choice(1,2)"}], ids=["bare", "params"])
def test_a_sweep_is_multiplied_out_as_by_hydra(words, params, tmp_path):
    assert expand(words, params) == by_hydra(words, params, tmp_path)


@pytest.mark.parametrize("words", [["seed=shuffle(1,2,3)"], ["seed=shuffle(range(5))"]], ids=" ".join)
def test_a_shuffled_sweep_has_the_same_runs(words, tmp_path):
    assert sorted(expand(words)) == sorted(by_hydra(words, {}, tmp_path))


def test_what_is_counted_by_hand():
    assert len(expand(["seed=range(0,10,3)", "cell=choice(rnn,gru,lstm)"])) == 4 * 3
    assert expand(["x='a,b',c"]) == [["x='a,b'"], ["x=c"]]
    assert choices(["seed=1", "cell=rnn,gru", "seed=2,3"]) == [["seed=2", "seed=3"], ["cell=rnn", "cell=gru"]]
    assert [key_of(word) for word in ("+a.b=1", "++c=x=y", "~d", "e@f=g")] == ["a.b", "c", "d", "e@f"]


@pytest.mark.parametrize(
    ("word", "error", "said"),
    [
        ("optimizer.lr=interval(0,1)", UserError, "an interval has no list of values; write optimizer.lr=choice"),
        ("seed=range(0,1000000000)", UserError, "more than 100,000 runs"),
        ("seed=sort(range(0,1000000000))", UserError, "more than 100,000 runs"),
        ("seed=range(0,5,0)", UserError, "more than 100,000 runs"),
        ("cell=choice(", HydraException, "choice"),
    ],
)
def test_what_cannot_be_multiplied_out(word, error, said):
    for expanded in (expand, choices):
        with pytest.raises(error, match=said):
            expanded(["cell=rnn", word])


def test_the_plan_has_a_run_for_each(tmp_path):
    """Of overrides and of what a config file adds to them."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: range(2)\n      cell: lstm\n"
    )
    words = ["cell=glob(r*)", "task=first", "experiment=own", f"hydra.searchpath=[file://{tmp_path}]"]
    assert params_of(words) == {"seed": "range(2)", "cell": "lstm"}
    plan(tmp_path / "sweep", words)
    runs = read_plan(tmp_path / "sweep")["runs"]
    found = {tuple(sorted(word for word in run["words"] if word.startswith(("seed", "cell")))) for run in runs}
    assert found == {("cell=rnn", "seed=0"), ("cell=rnn", "seed=1")}


@pytest.mark.parametrize("word", ["hydra.sweeper.params.seed='0,1'", "+hydra.sweeper.params={seed: '0,1'}"])
def test_what_the_basic_sweeper_cannot_take_is_one_line(word):
    with pytest.raises(UserError, match=r"belongs into a config file; on the command line write (seed='0,1'|KEY)"):
        params_of([word])


def test_rows_of_a_search_take_the_same_syntax():
    def names(words, **settings):
        return [row.name for row in rows_of(words, read_settings(settings))]

    assert names(["cell=choice(rnn,gru)", "task=first"]) == ["rnn/first", "gru/first"]
    assert names(["cell=sort(rnn,gru)", "task=first"]) == ["gru/first", "rnn/first"]
    assert names(["cell=glob([rnn,gru])", "task=first"]) == ["gru/first", "rnn/first"]
    assert names(["cell=rnn,gru", "cell=lstm", "task=first"]) == ["lstm/first"]  # the last one counts
    halves = ["cell=lstm", "cell.forget_bias=0.5,1.5", "task=first"]
    assert names(halves) == ["lstm forget_bias=0.5/first", "lstm forget_bias=1.5/first"]
    assert names(["model.dropout=0.25,0.5", "task=first"], rows={"a": "cell=rnn", "b": ["cell=gru"]}) == [
        f"{label} dropout={rate}/first" for label in "ab" for rate in (0.25, 0.5)
    ]
    with pytest.raises(UserError, match=r"the search chooses it; set hydra\.sweeper\.learning_rates"):
        rows_of(["optimizer.lr=interval(0,1)", "task=first"], Settings())
    with pytest.raises(UserError, match="an interval has no list of values"):
        rows_of(["model.dropout=interval(0,1)", "task=first"], Settings())


def test_overrides_in_one_text_are_split_outside_quotes():
    text = r"""cell=rnn x='a b' y="it's (1, 2)" z=[1, 2] u=choice(1, 2) v={a: 1} w=a\ b"""
    expected = ["cell=rnn", "x='a b'", 'y="it\'s (1, 2)"', "z=[1, 2]", "u=choice(1, 2)", "v={a: 1}", r"w=a\ b"]
    assert split_overrides(text) == expected
