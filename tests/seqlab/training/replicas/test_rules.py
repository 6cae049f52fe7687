"""The batched updates are those of torch's optimisers."""

import pytest
import torch
from torch import nn

from seqlab.training.replicas.stack import Member, Stack

CASES = {
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "adamw amsgrad": (torch.optim.AdamW, {"amsgrad": True}),
    "adam": (torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.8, 0.9)}),
    "sgd": (torch.optim.SGD, {"weight_decay": 0.1}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.5, "weight_decay": 0.1}),
    "centered": (torch.optim.RMSprop, {"centered": True, "eps": 1e-3}),
}


def members(kind, options):
    """Three models with two groups of parameters, of which the second has another rate and no decay."""
    made = []
    for number in range(3):
        torch.manual_seed(number)
        model = nn.Linear(3, 2).double()
        groups = [{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0, "lr": 0.02}]
        made.append(Member(model, kind(groups, lr=0.01 * (1 + number), **options)))
    return made


@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_torch_also_after_skipped_steps_and_when_stacked_again(case):
    torch.manual_seed(7)
    own, batched = members(*CASES[case]), members(*CASES[case])
    stack = Stack(batched)
    for step in range(12):
        if step == 6:
            for member in batched:
                stack.release(member)
            stack = Stack(batched)
        gradients = torch.randn(3, 8, dtype=torch.float64)
        accepted = [True, step not in (0, 5), step != 7]
        for member, gradient, accepts in zip(own, gradients, accepted, strict=True):
            member.model.weight.grad, member.model.bias.grad = gradient[:6].view(2, 3).clone(), gradient[6:].clone()
            if accepts:
                member.optimizer.step()
        stack.update(gradients.clone(), accepted)
    for one, other in zip(own, batched, strict=True):
        for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-13, atol=1e-14)
            state, same = one.optimizer.state[a], other.optimizer.state[b]
            assert state.keys() == same.keys()
            for name, value in state.items():
                assert value is None or torch.allclose(value.double(), same[name].double(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_parameters_may_be_on_a_device(case):
    """Rates and counts stay on the CPU; a device without memory stands for a GPU."""
    kind, options = CASES[case]
    models = [member.model.to("meta") for member in members(kind, options)]
    stack = Stack([Member(model, kind(model.parameters(), lr=0.01, **options)) for model in models])
    stack.update(torch.empty_like(stack.values), [True] * 3)
    assert stack.values.device.type == "meta"
