"""Search space of a command line: fixed, searched and added keys; each of its points is a run."""

import random
import shlex

import pytest

import seqlab
from seqlab import Choice, Interval, UserError
from seqlab.config.build import build_task
from seqlab.config.compose import Composer
from seqlab.config.schema import plain_config
from seqlab.plugins import plugins
from seqlab.plugins.config import plugin_classes
from seqlab.plugins.hydra_source import Sources, using_sources
from seqlab.plugins.signature import accepts, options
from seqlab.study.tune.results import write_experiment
from seqlab.study.tune.space import first_values, linear_overrides, read_space, suggested
from seqlab.sweeps.overrides import expand_each
from seqlab.sweeps.plan import run_key


def space_of(*overrides):
    return read_space(overrides, Composer())


def drawn(seed):
    """Suggest values at random."""
    draw = random.Random(seed)

    def suggest(name, dimension):
        if isinstance(dimension, Choice):
            return draw.choice(dimension.values)
        return draw.uniform(dimension.low, dimension.high)

    return suggest


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("cell.hidden_size=interval(16,64)", "cell.hidden_size=40"),
        ("cell.hidden_size=interval(16,256)", "cell.hidden_size=128"),
        ("model.output_dropout=interval(0.1,0.3)", "model.output_dropout=0.2"),
        ("data.batch_size=int(interval(16,64))", "data.batch_size=40"),
        ("optimizer.lr=interval(1e-5,3e-5)", "optimizer.lr=2e-05"),
    ],
)
def test_an_interval_of_any_option_is_searched_from_its_default_or_middle(override, first):
    space = space_of("task=textclf", override)
    for words in (space.default_overrides(), space.first_overrides()):
        assert first in words
        seqlab.compose(words)


def test_the_default_trial_is_the_run_without_a_search():
    for overrides in (["task=names"], ["task=textclf", "cell=gru", "model.depth=2", "seed=3"]):
        words = space_of(*overrides).default_overrides()
        assert run_key(seqlab.compose(words)) == run_key(seqlab.compose(overrides))


def test_every_point_is_a_run():
    """Of each task, with options of one candidate fixed that another does not have."""
    composer = Composer()
    for overrides in (["task=names", "model.pooling=mean"], ["task=textclf", "preprocessing.min_count=2"]):
        space = read_space(overrides, composer)
        for seed in range(5):
            composer.checked(space.overrides(drawn(seed)))
        composer.checked(space.overrides(first_values))


def test_an_override_fixes_its_key_or_sets_its_values():
    space = space_of(
        "task=names", "cell=gru,rnn", "model.depth=3", "optimizer.lr=tag(log,interval(1e-3,1e-1))",
        "trainer.gradient_clip_val=1,5", "data.batch_size=32", "preprocessing=characters",
    )  # fmt: skip
    models = {each.name: each for each in space.groups["model"]}
    assert [each.name for each in space.groups["cell"]] == ["gru", "rnn"]
    assert models["recurrent"].dimensions["depth"] == Choice(("3",))
    assert "depth" not in models["bow"].dimensions
    assert space.trained["optimizer.lr"] == Interval(1e-3, 1e-1, log=True)
    assert space.general["trainer.gradient_clip_val"] == Choice(("1", "5"))
    assert "data.batch_size" not in space.trained
    words = space.overrides(first_values)
    assert {"model.depth=3", "data.batch_size=32", "optimizer.lr=0.01"} <= set(words)
    assert len({word.partition("=")[0] for word in words}) == len(words)


@pytest.mark.parametrize("task", ["lm", "hmm", "mqar"])
def test_a_task_with_an_output_at_each_step_is_not_read_backward(task):
    """Prediction of the next token from a direction that has read it would win any search."""
    space = space_of(f"task={task}")
    assert not any("bidirectional" in each.dimensions for each in space.groups["model"])
    assert seqlab.compose(space_of(f"task={task}", "model.bidirectional=true").default_overrides()).model.bidirectional


def test_a_third_partys_cell_is_searched_by_its_constructor(distribution):
    source = (
        "from typing import Literal\nfrom torch import nn\nfrom seqlab import Cell\n"
        "class Mine(Cell):\n"
        "    def __init__(self, input_size: int, hidden_size: int = 24, gate: Literal['hard', 'soft'] = 'soft'):\n"
        "        super().__init__(input_size, hidden_size)\n"
        "        self.map = nn.Linear(input_size + hidden_size, hidden_size)\n"
        "    def step(self, x, state):\n"
        "        return x, state\n"
    )
    distribution("seqlab-mine", "[seqlab.cells]\nmine = mine:Mine\nbroken = nowhere:Cell\n", {"mine": source})
    space = space_of("task=names")
    (mine,) = [each for each in space.groups["cell"] if each.name == "mine"]
    assert mine.dimensions == {"hidden_size": Choice(("24", "12", "48")), "gate": Choice(("soft", "hard"))}
    assert len(space.notes) == 1
    assert "cell=broken is not searched" in space.notes[0]
    assert [each.name for each in space_of("task=names", "cell=lstm").groups["cell"]] == ["lstm"]


@pytest.mark.parametrize("kind", ["cell", "model", "preprocessing", "task"])
def test_every_declared_value_is_one_of_its_option(kind):
    groups = {"task": ["model", "preprocessing"], "model": ["cell"]}.get(kind, [])
    for name in plugins(kind):
        (plugin,) = plugin_classes(kind, name)
        known = {option.name: option.annotation for option in options(plugin) if not option.supplied}
        for option, dimension in getattr(plugin, "search_space", dict)().items():
            values = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
            if option in groups:
                assert set(values) <= set(plugins(option)), (name, option)
            else:
                assert all(accepts(known[option], value) for value in values), (name, option)


@pytest.mark.parametrize(
    ("override", "message"),
    [("model.nope=1", "no candidate of model"), ("preprocessing.nope=1,2", "no candidate of preprocessing")],
)
def test_an_option_that_no_candidate_has_is_refused(override, message):
    with pytest.raises(UserError, match=message):
        space_of("task=names", override)


def test_a_glob_is_the_names_that_it_matches():
    (swept,) = expand_each(["cell=glob(*lstm)"])
    found = [f"cell={each.name}" for each in space_of("task=names", "cell=glob(*lstm)").groups["cell"]]
    assert "cell=lstm" in found
    assert found == swept
    with pytest.raises(UserError, match="no cell has such a name"):
        space_of("task=names", "cell=glob(nope*)")


def test_each_of_several_optimisers_has_its_own_rate():
    """SGD starts from 1.0, AdamW from 0.005: neither is compared at the rates of the other."""
    assert {"optimizer.lr", "optimizer.weight_decay"}.isdisjoint(space_of("task=names", "optimizer=adamw,sgd").trained)
    assert "optimizer.lr" in space_of("task=names", "optimizer=sgd").trained
    assert "optimizer.lr" not in space_of("task=names", "optimizer.lr=0").trained


def test_several_tasks_are_refused():
    with pytest.raises(UserError, match="name one task"):
        space_of("task=names,textclf")


def test_the_linear_baseline_is_a_point_of_the_space():
    space = space_of("task=textclf")
    task = build_task(plain_config(seqlab.compose(["task=textclf"]))["task"])
    task.splits()
    words = linear_overrides(space, task)
    assert {"model=bow", "preprocessing=words", "preprocessing.steps=[lower]"} <= set(words)
    seqlab.compose(words)
    assert linear_overrides(space_of("task=textclf", "model=recurrent"), task) is None


@pytest.mark.parametrize("given", ["[nfc]", "[nfc],[]"])
def test_the_linear_baseline_adds_no_value_to_an_option_that_was_set(given):
    task = build_task(plain_config(seqlab.compose(["task=textclf"]))["task"])
    task.splits()
    space = space_of("task=textclf", "preprocessing=words", f"preprocessing.steps={given}")
    linear_overrides(space, task)
    (words,) = space.groups["preprocessing"]
    assert "[lower]" not in words.dimensions["steps"].values


def test_the_command_to_keep_names_the_users_config_folders(tmp_path):
    mine = tmp_path / "mine"
    (mine / "trainer").mkdir(parents=True)
    (mine / "trainer" / "slow.yaml").write_text("defaults: [default, _self_]\nmax_epochs: 3\n", "utf-8")
    with using_sources(Sources(folders=(f"file://{mine}",))):
        composer, words = Composer(), ["task=names", "trainer=slow"]
        command = shlex.split(write_experiment(tmp_path / "kept", composer.checked(words), composer, words))
    assert str(mine) in command[3]
    assert seqlab.compose(command[3:]).trainer.max_epochs == 3


def test_the_config_file_of_any_point_trains_the_same_run(tmp_path):
    composer = Composer()
    space = read_space(["task=textclf", "optimizer=sgd", "trainer=cpu", "seed=7"], composer)
    for seed in range(3):
        words = space.overrides(drawn(seed))
        write_experiment(tmp_path, composer.checked(words), composer, words)
        loaded = seqlab.compose([f"hydra.searchpath=[file://{tmp_path}]", "experiment=tuned"])
        assert run_key(loaded) == run_key(composer.checked(words))


def test_suggestions_are_written_with_four_digits():
    assert [suggested(value) for value in (0.00123456, 3, "null", 1e-7)] == ["0.001235", "3", "null", "1e-07"]
