"""The number of threads of a run by measurement: it changes no bit, is recorded, and changes where it pays."""

import pytest
import torch

import seqlab
from seqlab.distributed.devices import Threads
from seqlab.training import session
from seqlab.training.checkpoint import StepReachedError
from seqlab.training.steps import threads
from seqlab.training.steps.threads import FEWEST_STEPS, MeasuredThreads, time_in_turns

from ...resumable import FAST, last, record_of, same, weights_of

RUN = [each for each in FAST if not each.startswith("trainer.threads")]


class Clock:
    """A clock that steps move on: by 1 s with one thread, by ``several`` with more."""

    def __init__(self, several):
        self.now, self.several, self.steps = 0.0, several, []

    def __call__(self):
        return self.now

    def step(self):
        self.steps.append(torch.get_num_threads())
        self.now += 1.0 if self.steps[-1] == 1 else self.several


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """On a machine of two cores, whatever this one has."""
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("several", [0.5, 1.0, 30.0])
def test_the_times_are_those_of_each_number_in_turns(several):
    clock = Clock(several)
    assert time_in_turns(clock.step, (1, 2), 1000, clock) == (1.0, several)
    assert clock.steps[:3] == [1, 1, 2]  # not measured
    assert clock.steps[3:] == [1, 2] * (len(clock.steps[3:]) // 2)


@pytest.mark.parametrize(("steps", "several"), [(FEWEST_STEPS, 0.5), (FEWEST_STEPS, 2.5), (1e6, 0.9), (1e6, 9.0)])
def test_a_measurement_takes_little_of_the_run(monkeypatch, steps, several):
    """At most 5 % of the time with one thread, 12 % where a second one is much slower; a second for a long run."""
    clock = Clock(several)
    monkeypatch.setattr(threads, "SECONDS", 300.0)
    time_in_turns(clock.step, (1, 2), steps, clock)
    assert clock.now <= (0.12 if several > 2 else 0.06) * steps
    assert clock.now <= 300 + 3 * (1 + several)


def scripted(monkeypatch, *pairs):
    """Have the measurements of a run give these times, after computing what they measure."""
    left = list(pairs)

    def measure(step, numbers, steps, clock):
        step()
        step()
        return left.pop(0)

    monkeypatch.setattr(threads, "time_in_turns", measure)
    monkeypatch.setattr(threads, "FEWEST_STEPS", 1)


@pytest.mark.parametrize("words", [["model.dropout=0.4", "model.depth=2"], ["task=adding"]])
@pytest.mark.parametrize(("pair", "number"), [((1.0, 0.8), 2), ((1.0, 0.97), 1)])
def test_a_measured_run_has_the_bits_of_its_number(names_folder, tmp_path, monkeypatch, words, pair, number):
    """Random numbers, loaders and weights are as if nothing had been measured."""
    scripted(monkeypatch, pair)
    if "task=adding" in words:
        words = [*words, "task.sequence_length=8", "task.examples=256", "task.held_out=64"]
    else:
        words = [*words, f"task.data_dir={names_folder}"]
    words = [*RUN, "trainer.max_epochs=1", *words, "trainer.limit_train_batches=2"]
    seqlab.run(seqlab.compose([*words, "trainer.threads=auto"]), tmp_path / "auto")
    found = record_of(tmp_path / "auto")["compute"]
    assert (found["threads"], found["threads_by_step"]) == (number, [[0, number]])
    assert found["threads_reason"] == f"measured: 1e+03 ms a step with 1 thread, {1e3 * pair[1]:.3g} ms with 2"
    seqlab.run(seqlab.compose([*words, f"trainer.threads={number}"]), tmp_path / "asked")
    assert record_of(tmp_path / "asked")["compute"]["threads_by_step"] == [[0, number]]
    assert same(last(tmp_path / "auto"), last(tmp_path / "asked"))
    assert same(weights_of(tmp_path / "auto"), weights_of(tmp_path / "asked"))


def test_the_number_changes_where_it_pays_and_is_recorded(names_folder, tmp_path, monkeypatch):
    """Two threads, until their steps become slower; then one, until a later measurement."""
    scripted(monkeypatch, (1.0, 0.8), (1.0, 5.0), (1.0, 0.8))
    clock = Clock(1.0)
    monkeypatch.setattr(threads, "WINDOW", 1.5)
    monkeypatch.setattr(threads, "FIRST_CHECK", 4.0)

    batch_end = MeasuredThreads.on_train_batch_end

    def later(self, trainer, *rest):
        slow = 3 <= trainer.global_step < 6
        clock.now += 4.0 if slow and torch.get_num_threads() == 2 else 1.0
        batch_end(self, trainer, *rest)

    monkeypatch.setattr(MeasuredThreads, "on_train_batch_end", later)
    monkeypatch.setattr(session, "MeasuredThreads", lambda *given: MeasuredThreads(*given, clock))
    words = ["trainer.max_epochs=1", "data.batch_size=8", f"task.data_dir={names_folder}", "trainer.threads=auto"]
    seqlab.run(seqlab.compose([*RUN, *words]), tmp_path / "run")
    history = record_of(tmp_path / "run")["compute"]["threads_by_step"]
    assert [number for _, number in history] == [2, 1, 2]
    assert history[0][0] == 0 < history[1][0] < history[2][0]


def test_a_short_run_is_not_measured(names_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "time_in_turns", None)
    words = ["trainer.max_epochs=1", f"task.data_dir={names_folder}", "trainer.threads=auto"]
    seqlab.run(seqlab.compose([*RUN, *words]), tmp_path / "run")
    assert record_of(tmp_path / "run")["compute"]["threads_reason"].startswith("small model: ")


def test_the_history_is_resumed():
    first = MeasuredThreads(2, Threads(1, "small model"))
    first.history = [[0, 2], [40, 1]]
    second = MeasuredThreads(2, Threads(1, "small model"))
    second.load_state_dict(first.state_dict())
    assert second.history == first.history


def test_each_part_of_a_resumed_run_has_its_number(names_folder, tmp_path):
    words = ["trainer.max_epochs=1", "data.batch_size=8", f"task.data_dir={names_folder}"]
    with pytest.raises(StepReachedError):
        seqlab.run(seqlab.compose([*RUN, *words, "trainer.threads=2"]), tmp_path / "run", until=2)
    seqlab.run(seqlab.compose([*RUN, *words, "trainer.threads=1", "ckpt_path=last"]), tmp_path / "run")
    assert record_of(tmp_path / "run")["compute"]["threads_by_step"] == [[0, 2], [2, 1]]
