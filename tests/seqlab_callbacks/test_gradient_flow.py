"""Gradient flow: the same run with and without the callback, and in a plain Lightning trainer."""

import copy
import logging
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

import seqlab
from seqlab import UserError
from seqlab.runs.run_folder import read_weights
from seqlab.study.gradient_flow import FLOW, read
from seqlab.study.modules import record
from seqlab.training.callbacks import StopWhenSolved
from seqlab.training.optimizers import NonMonotonicAveraging
from seqlab_callbacks.gradient_flow import GradientFlow, is_default_step
from seqlab_cells.convert import to_torch
from seqlab_cells.lstm import LSTM
from seqlab_tasks.synthetic import First

SMALL = [
    "cell=lstm", "cell.hidden_size=6", "task=first", "task.sequence_length=6", "task.examples=96", "task.held_out=20",
    "data.batch_size=8", "model.dropout=0.2", "model.depth=2", "trainer.max_epochs=2", "trainer.progress=false",
    "logger=none", "trainer.threads=1",
]  # fmt: skip


def run(folder, *words):
    return seqlab.run(seqlab.compose([*SMALL, *words]), folder)


def test_the_weights_are_bitwise_equal(tmp_path):
    plain = run(tmp_path / "plain")
    watched = run(
        tmp_path / "watched",
        "callbacks=gradient_flow",
        "callbacks.gradient_flow.every=5",
        "callbacks.gradient_flow.rows=3",
    )
    before, after = (read_weights(result.folder / "model.safetensors") for result in (plain, watched))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert watched.metrics == plain.metrics
    assert watched.record["kernel"] == plain.record["kernel"]
    assert read(watched.folder).steps == [0, 5, 10, 15, 20, 24]
    assert len({row.distance for row in read(watched.folder).rows}) == 6
    for name in ("gradient_flow.png", "gradient_flow.svg"):
        assert (watched.folder / name).is_file()
        assert name in watched.record["figures"]
    assert not (plain.folder / FLOW).exists()
    assert not (plain.folder / "gradient_flow.png").exists()


def test_a_resumed_run_keeps_its_rows(tmp_path):
    words = ["callbacks=gradient_flow", "callbacks.gradient_flow.every=8"]
    run(tmp_path, *words, "trainer.max_epochs=1")
    (tmp_path / "results.json").unlink()
    before = read(tmp_path)
    assert before.steps == [0, 8, 12]
    run(tmp_path, *words, "ckpt_path=last")
    after = read(tmp_path)
    assert after.steps == [0, 8, 12, 16, 24]
    assert after.rows[: len(before.rows)] == before.rows
    assert len(set(map(str, after.rows))) == len(after.rows) == 5 * len(before.rows) / 3


def test_it_is_chosen_by_name_or_in_a_list():
    chosen = [seqlab.compose([f"callbacks={word}"]).callbacks for word in ("gradient_flow", "[gradient_flow]")]
    assert chosen == 2 * [{"gradient_flow": {"name": "gradient_flow", "every": 0, "rows": 8, "picture": True}}]


def test_moments_by_default():
    assert [step for step in range(1, 4_000) if is_default_step(step)] == [10, 32, 100, 316, 1000, 3162]


def test_a_model_without_a_recurrent_part_is_not_measured(tmp_path, caplog):
    caplog.set_level(logging.INFO, "seqlab")
    words = [word for word in SMALL if not word.startswith(("model.", "cell"))]
    with caplog.at_level("INFO", "seqlab"):
        result = seqlab.run(seqlab.compose([*words, "model=window", "callbacks=gradient_flow"]), tmp_path / "run")
    assert not (result.folder / FLOW).exists()
    assert "nothing is measured" in caplog.text


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="rows must be >= 1, got 0"):
        GradientFlow(rows=0)
    with pytest.raises(UserError, match=r"callbacks\.gradient_flow\.every must be >= 0, got -1"):
        run(tmp_path / "run", "callbacks=gradient_flow", "callbacks.gradient_flow.every=-1")


def test_running_text_is_read_in_windows(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven\nseven six five four three two one\n" * 60, "utf-8")
    words = ["task=lm", f"task.data={text}", "cell=gru", "cell.hidden_size=6", "task.sequence_length=12"]
    quick = ["trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.progress=false", "logger=none"]
    result = seqlab.run(seqlab.compose([*words, *quick, "callbacks=gradient_flow"]), tmp_path / "run")
    flow = read(result.folder)
    assert {row.distance for row in flow.rows} == set(range(12))
    for row in flow.rows:
        assert row.product == pytest.approx(row.norm, rel=1e-8)


class Plain(pl.LightningModule):
    """LightningModule of a user: an LSTM of seqlab, a linear head, a loss."""

    def __init__(self, cell=LSTM):
        super().__init__()
        self.net, self.head = seqlab.Recurrent(cell, 3, hidden_size=4, batch_first=True), torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.head(self.net(x)[0][:, -1]), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("validation", self.training_step(batch, index))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Manual(Plain):
    def training_step(self, batch, index):
        self.optimizers().step()
        return super().training_step(batch, index)


def fit(module, folder, *callbacks, validate=True):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(12, 5, 3), torch.randn(12, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    trainer = pl.Trainer(
        max_epochs=2, default_root_dir=folder, callbacks=list(callbacks), logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader, loader if validate else None)
    return data


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.parametrize("validate", [True, False])
def test_it_measures_a_plain_module_in_a_plain_trainer(tmp_path, validate):
    """The norm at each distance equals that of autograd through ``torch.nn.LSTM``."""
    torch.manual_seed(1)
    plain, watched = Plain(), Plain()
    watched.load_state_dict(plain.state_dict())
    theirs = to_torch(plain.net).double()
    head = torch.nn.Linear(4, 1).double()
    head.load_state_dict(plain.head.state_dict())
    data = fit(plain, tmp_path / "plain", validate=validate)
    fit(watched, tmp_path / "watched", GradientFlow(every=2), validate=validate)
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), watched.parameters(), strict=True))
    flow = read(tmp_path / "watched")
    assert flow.steps == [0, 2, 4, 6]
    x, y = data[:4][0].double(), data[:4][1].double()
    states, state = [], (torch.zeros(1, 4, 4).double(), torch.zeros(1, 4, 4).double())
    for step in range(5):
        state = theirs(x[:, step : step + 1], state)[1]
        states.append(state[0].requires_grad_() if state[0].is_leaf else state[0])
    gradients = torch.autograd.grad((head(states[-1][0]) - y).square().sum(), states)
    norms = [each[0].norm(dim=1).mean().item() for each in reversed(gradients)]
    curve = flow.curve(0, layer=0, direction="forward", state="h")
    assert [row.norm for row in curve] == pytest.approx(norms, rel=1e-6)


class Stranger(Plain):
    """A LightningModule of torch alone: two ``nn.LSTM``, one behind the other."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.LSTM(3, 6, batch_first=True)
        self.second, self.head = torch.nn.LSTM(6, 4, batch_first=True), torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        x, y = batch
        return torch.nn.functional.mse_loss(self.head(self.second(self.net(x)[0])[0][:, -1]), y)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_it_measures_the_lstms_of_a_stranger(tmp_path):
    """Layers 0 and 1 in the order of their calls, equal to what :func:`record` measures in the first step."""
    torch.manual_seed(1)
    module = Stranger()
    first = copy.deepcopy(module).double()
    data = fit(module, tmp_path, GradientFlow(every=3, picture=False), validate=False)
    batch = tuple(each.double() for each in data[:4])
    with record(first) as recorded:
        first.training_step(batch, 0).backward()
    flow = read(tmp_path)
    for layer, name in enumerate(("net", "second")):
        for state in "hc":
            expected = [row.norm for row in recorded.flow(name).curve(0, state=state)]
            assert [row.norm for row in flow.curve(0, layer=layer, state=state)] == pytest.approx(expected, rel=1e-8)


class OwnLSTM(torch.nn.LSTM):
    """A subclass, which may compute anything."""


def test_a_plain_module_that_cannot_be_measured_trains_on(tmp_path, caplog):
    with caplog.at_level("INFO", "seqlab"):
        fit(torch_only := Plain(), tmp_path / "one", GradientFlow())
        torch_only.net = OwnLSTM(3, 4, batch_first=True)
        fit(torch_only, tmp_path / "two", GradientFlow())
        module = Manual()
        module.automatic_optimization = False
        fit(module, tmp_path / "three", GradientFlow())
    assert "nothing is measured" in caplog.text
    assert sum("gradient_flow stops at step 0" in line for line in caplog.messages) == 1


def test_other_callbacks_name_the_metric_they_need(tmp_path):
    with pytest.raises(UserError, match="NonMonotonicAveraging needs the logged metric valid/loss, but loss, valid"):
        fit(Plain(), tmp_path, NonMonotonicAveraging("valid/loss", "min", 1))
    with pytest.raises(
        UserError, match="StopWhenSolved needs the logged metric valid/accuracy, but loss, validation is"
    ):
        fit(Plain(), tmp_path, StopWhenSolved(First(), 1))
    fit(Plain(), tmp_path, NonMonotonicAveraging("validation", "min", 1))


def test_the_time_of_training_is_the_share_of_a_run_among_those_that_train_with_it_now(monkeypatch):
    """Also after the others have ended, and of a resumed run that trained with others before."""
    now = iter([40.0, 50.0])
    monkeypatch.setattr("seqlab_callbacks.gradient_flow.time", SimpleNamespace(perf_counter=lambda: next(now)))
    flow, cost = GradientFlow(), SimpleNamespace(together=4, replicas=4)
    trainer = SimpleNamespace(callbacks=[cost])
    flow._count(trainer)
    cost.together = 1
    flow._count(trainer)
    assert flow._trained == 40 / 4 + 10
