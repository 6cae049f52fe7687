"""``optimizer.recurrent_lr``: a group of the cells' parameters with its own rate and no weight decay."""

import copy
import math

import pytest
import torch
from torch import nn

import seqlab
from seqlab import Recurrent, UserError
from seqlab.training.module import SequenceModule
from seqlab.training.optimizers import make_optimizer, recurrent_parameters
from seqlab_cells.gru import GRU

from ..resumable import FAST, interrupted, last, record_of, same, weights_of, write_names

NODE = {"name": "adamw", "lr": 0.1, "recurrent_lr": 0.02, "weight_decay": 0.3}


@pytest.fixture
def names_folder(tmp_path):
    write_names(tmp_path / "names", {"Ab": "ab ba ab", "Cd": "cd dc ce", "Ef": "ef fe fa"})
    return tmp_path / "names"


class Two(nn.Module):
    """Two networks with every wrapper, around them an embedding and a head."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.one = Recurrent(GRU, 3, hidden_size=4, depth=2, block="prenorm_mlp", conv=3, zoneout=0.1, weight_drop=0.2)
        self.two = Recurrent(GRU, 4, hidden_size=4, connection="highway", learned_start=True, bidirectional=True)
        self.head = nn.Linear(8, 2)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_groups_partition_the_parameters(frozen):
    model = Two()
    if frozen:
        model.table.requires_grad_(False)
        model.one.layers[0].requires_grad_(False)
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups = make_optimizer(NODE, model.parameters(), recurrent_parameters(model)).param_groups
    found = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert sorted(name for group in found for name in group) == sorted(names.values())
    inside = {name for name in names.values() if ".from_input." in name or ".from_state." in name}
    assert set(found[2]) == inside
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.1, 0.3), (0.1, 0.0), (0.02, 0.0)]


def test_null_is_two_groups_and_no_cell_is_an_error():
    model = Two()
    plain = make_optimizer({**NODE, "recurrent_lr": None}, model.parameters(), recurrent_parameters(model))
    assert len(plain.param_groups) == 2
    head = nn.Linear(3, 2)
    with pytest.raises(UserError, match=r"^optimizer.recurrent_lr must be null where no cell is trained, got 0.02$"):
        make_optimizer(NODE, head.parameters(), recurrent_parameters(head))


@pytest.mark.parametrize("value", ["-1", "nan", "fast"])
def test_a_wrong_value_is_one_line(value):
    with pytest.raises(UserError, match=r"^optimizer.recurrent_lr must be") as caught:
        seqlab.run(seqlab.compose([*FAST, f"optimizer.recurrent_lr={value}"]))
    assert "\n" not in str(caught.value)


def trained(names_folder, folder, *overrides):
    rates = ["optimizer.lr=0.05", "optimizer.recurrent_lr=0.004", "optimizer.weight_decay=0.2"]
    words = [*FAST, f"task.data_dir={names_folder}", "trainer.max_epochs=3", *rates, *overrides]
    return seqlab.run(seqlab.compose(words), folder)


def test_three_steps_are_those_of_a_torch_loop(names_folder, tmp_path, monkeypatch, caplog):
    """AdamW of three groups, clipped gradients, and a cosine schedule that scales both rates."""
    begun, batches = [], []
    step = SequenceModule.training_step

    def watched(self, batch, index):
        if not begun:
            begun.append(copy.deepcopy((self.model, self.task)))
        batches.append(batch)
        return step(self, batch, index)

    monkeypatch.setattr(SequenceModule, "training_step", watched)
    with caplog.at_level("INFO", logger="seqlab"):
        trained(names_folder, tmp_path / "run", "trainer.max_steps=3", "optimizer.schedule=cosine", "data.batch_size=9")
    assert [line for line in caplog.messages if line.startswith("optimizer.recurrent_lr=0.004: for ")]
    assert record_of(tmp_path / "run")["config"]["optimizer"]["recurrent_lr"] == 0.004
    ((model, task),) = begun
    assert len(batches) == 3
    cells = [parameter for name, parameter in model.named_parameters() if name.startswith("recurrent.layers.")]
    others = [parameter for name, parameter in model.named_parameters() if not name.startswith("recurrent.layers.")]
    matrices, vectors = ([p for p in others if (p.dim() > 1) == wide] for wide in (True, False))
    groups = [
        {"params": matrices, "lr": 0.05, "weight_decay": 0.2},
        {"params": vectors, "lr": 0.05, "weight_decay": 0.0},
        {"params": cells, "lr": 0.004, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    for done, batch in enumerate(batches):
        for group, rate in zip(optimizer.param_groups, (0.05, 0.05, 0.004), strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done / 3))
        optimizer.zero_grad()
        task.loss(model(batch)[0], batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    saved = last(tmp_path / "run")
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(saved[f"model.{name}"], expected, rtol=0, atol=1e-6)


def test_a_resumed_run_equals_the_uninterrupted_one(names_folder, tmp_path):
    trained(names_folder, tmp_path / "whole")
    with interrupted(1, 0):
        trained(names_folder, tmp_path / "cut")
    with pytest.raises(UserError, match=r"these keys are fixed: optimizer\.recurrent_lr was 0\.004, is null"):
        trained(names_folder, tmp_path / "cut", "ckpt_path=last", "optimizer.recurrent_lr=null")
    trained(names_folder, tmp_path / "cut", "ckpt_path=last")
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))
    assert same(last(tmp_path / "whole"), last(tmp_path / "cut"))
