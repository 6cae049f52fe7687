"""``seqlab.nn.replace``: which modules of a model become fast ones, and what stays as it was."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.testing import assert_close

import seqlab.nn
from seqlab import Recurrent
from seqlab_cells.gru import GRU


class Tagger(nn.Module):
    """A model of another project: two encoders, one used twice under two names, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.tags = nn.LSTM(3, 4, batch_first=True, bidirectional=True), nn.GRU(8, 5, batch_first=True)
        self.same, self.head = self.words, nn.Linear(5, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.tags(self.words(x)[0])[0][:, -1])


def test_it_replaces_in_place_and_keeps_every_parameter() -> None:
    """The optimiser of before goes on: training equals that of the model that was left alone."""
    torch.manual_seed(0)
    model = Tagger()
    plain = copy.deepcopy(model)
    models = (model, plain)
    optimizers = [torch.optim.Adam(each.parameters(), 0.1) for each in models]
    called = []
    model.tags.register_forward_hook(lambda *_: called.append(1))
    parameters, names = list(model.parameters()), list(model.state_dict())
    report = seqlab.nn.replace(model)
    assert [(each.name, each.module, each.kept) for each in report] == [("words", "LSTM", None), ("tags", "GRU", None)]
    assert type(model.words) is seqlab.nn.LSTM
    assert model.same is model.words
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == names
    x = torch.randn(6, 5, 3)
    for _ in range(3):
        for each, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            each(x).square().sum().backward()
            optimizer.step()
    assert_close(dict(model.state_dict()), dict(plain.state_dict()))
    assert called
    plain.load_state_dict(model.state_dict())


class Own(nn.GRU):
    """A subclass may compute anything."""


def test_it_says_why_it_keeps_a_module() -> None:
    changed = nn.GRU(3, 4)
    changed.forward = lambda x: x  # type: ignore[method-assign]  # as some libraries do
    model = nn.ModuleDict({
        "projected": nn.LSTM(3, 4, proj_size=2), "own": Own(3, 4), "normed": weight_norm(nn.GRU(3, 4), "weight_hh_l0"),
        "changed": changed, "fast": seqlab.nn.GRU(3, 4), "cells": Recurrent(GRU, 3), "linear": nn.Linear(3, 4),
    })  # fmt: skip
    kinds = {name: type(module) for name, module in model.items()}
    kept = {each.name: each.kept or "" for each in seqlab.nn.replace(model)}
    wanted = {
        "projected": "proj_size=2", "own": "Own is a subclass", "normed": "parametrised", "changed": "forward",
        "fast": "seqlab.nn",
    }  # fmt: skip
    assert list(kept) == list(wanted)
    assert all(reason in kept[name] for name, reason in wanted.items())
    assert {name: type(module) for name, module in model.items()} == kinds


def test_the_model_may_be_the_module() -> None:
    module = nn.LSTM(3, 4)
    (only,) = seqlab.nn.replace(module, kernel="loop")
    assert str(only) == "the model (LSTM): replaced"
    module(torch.randn(2, 1, 3))
    assert module.choice.kernel.name == "loop"
    assert seqlab.nn.replace(nn.Linear(2, 2)) == []


def test_a_kernel_that_does_not_exist_is_named() -> None:
    module = nn.LSTM(3, 4)
    seqlab.nn.replace(module, kernel="fastest")
    with pytest.raises(ValueError, match="kernel=fastest"):
        module(torch.randn(2, 1, 3))
