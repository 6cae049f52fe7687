"""A run that a signal stops resumes exactly where it stopped."""

import multiprocessing
import os
import signal
import threading

import pytest
import torch

import seqlab
from seqlab import UserError
from seqlab.distributed.signals import StoppedError, StopRequest
from seqlab.runs import run_folder
from seqlab.training.module import SequenceModule

from ..resumable import checkpoint_of, interrupted, last, same

FAST = ["cell.hidden_size=12", "model.dropout=0.3", "model.depth=2", "logger=none", "trainer.progress=false"]
SMALL = {
    "names": [*FAST, "task=names", "data.batch_size=16", "trainer.max_epochs=3"],
    "lm": [*FAST, "task=lm", "task.sequence_length=10", "data.batch_size=4", "trainer.max_epochs=2"],
}


@pytest.fixture
def configured(small_data):
    return lambda task, *overrides: seqlab.compose([*SMALL[task], small_data[task], *overrides])


def stopped_at(epoch, batch, number, monkeypatch, run):
    """Send this process a signal in the middle of a step, and let it stop."""
    step = SequenceModule.training_step

    def signalled(self, data, index):
        if (self.current_epoch, index) == (epoch, batch):
            for child in multiprocessing.active_children():  # a scheduler signals every process of a job
                os.kill(child.pid, number)
            os.kill(os.getpid(), number)
        return step(self, data, index)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", signalled)
        with pytest.raises(StoppedError) as stopped:
            run()
    assert stopped.value.by == number


ACCUMULATED = ["trainer.accumulate_grad_batches=4", "data.workers=2"]
AVERAGED = ["optimizer=nt_asgd", "optimizer.averaging=1", "optimizer.lr=0.5"]


@pytest.mark.parametrize(
    ("task", "number", "at", "options"),
    [
        ("names", signal.SIGTERM, (0, 0), []),
        ("names", signal.SIGUSR1, (1, 5), []),
        ("names", signal.SIGUSR2, (1, 5), ACCUMULATED),
        ("names", signal.SIGINT, (0, 9), AVERAGED),
        pytest.param("lm", signal.SIGTERM, (0, 0), [], marks=pytest.mark.long),
        pytest.param("lm", signal.SIGUSR1, (1, 5), [], marks=pytest.mark.long),
        ("lm", signal.SIGUSR2, (1, 5), ACCUMULATED),
        pytest.param("lm", signal.SIGINT, (0, 9), AVERAGED, marks=pytest.mark.long),
    ],
)
def test_a_stopped_run_resumes_exactly(configured, tmp_path, monkeypatch, task, number, at, options):
    whole = seqlab.run(configured(task, *options), tmp_path / "whole")
    stopped_at(*at, number, monkeypatch, lambda: seqlab.run(configured(task, *options), tmp_path / "cut"))
    assert checkpoint_of(tmp_path / "cut")["epoch"] == at[0]
    assert not (tmp_path / "cut" / run_folder.RESULTS).exists()
    torch.manual_seed(99)  # the state of the process does not matter
    cut = seqlab.run(configured(task, *options, "ckpt_path=last"), tmp_path / "cut")
    assert same(last(tmp_path / "whole"), last(tmp_path / "cut"))
    assert cut.metrics == whole.metrics
    assert cut.record["best"] == whole.record["best"]
    for count in ("batches", "examples", "epochs"):
        assert cut.cost[count] == whole.cost[count]


@pytest.mark.parametrize("time_is_up", [False, True])
def test_a_signal_in_an_epochs_last_step_waits_for_validation(configured, tmp_path, monkeypatch, time_is_up):
    """Unless that takes too long: then the work since the last checkpoint is repeated, with the same result."""
    whole = seqlab.run(configured("names"), tmp_path / "whole")
    last_batch = int(whole.cost["batches"] / whole.cost["epochs"]) - 1
    with monkeypatch.context() as patch:
        if time_is_up:
            patch.setattr(StopRequest, "is_older_than", lambda self, seconds: self.by is not None)
        stopped_at(1, last_batch, signal.SIGTERM, patch, lambda: seqlab.run(configured("names"), tmp_path / "cut"))
    epochs = checkpoint_of(tmp_path / "cut")["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    assert epochs == (1 if time_is_up else 2)
    cut = seqlab.run(configured("names", "ckpt_path=last"), tmp_path / "cut")
    assert same(last(tmp_path / "whole"), last(tmp_path / "cut"))
    assert cut.metrics == whole.metrics


def test_the_last_checkpoint_within_an_epoch_resumes(configured, tmp_path):
    """Saved after every step: the run crashes, and resumes at the last checkpoint."""
    whole = seqlab.run(configured("lm"), tmp_path / "whole")
    with interrupted(1, 7):
        seqlab.run(configured("lm", "trainer.checkpoint_minutes=0"), tmp_path / "cut")
    assert checkpoint_of(tmp_path / "cut")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] == 7
    cut = seqlab.run(configured("lm", "ckpt_path=last"), tmp_path / "cut")
    assert same(last(tmp_path / "whole"), last(tmp_path / "cut"))
    assert cut.metrics == whole.metrics


def test_best_is_the_checkpoint_of_the_best_epoch(configured, tmp_path):
    first = seqlab.run(configured("names", "optimizer.lr=0.02"), tmp_path / "run")
    best = torch.load(tmp_path / "run" / run_folder.BEST, weights_only=True)
    assert best["epoch"] == first.record["best"]["epoch"]
    weights = seqlab.load(tmp_path / "run").model.state_dict()
    assert all(torch.equal(value, best["state_dict"][f"model.{name}"]) for name, value in weights.items())
    with pytest.raises(UserError, match="ckpt_path=best: there is no"):
        seqlab.run(configured("names", "ckpt_path=best"), tmp_path / "other")


def test_a_second_interrupt_ends_at_once():
    stop = StopRequest()
    before = signal.getsignal(signal.SIGINT)
    with stop.handling_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.by == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_another_thread_trains_without_signals(configured, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(seqlab.run(configured("names"), tmp_path / "run")))
    thread.start()
    thread.join()
    assert results
