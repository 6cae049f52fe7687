"""Groups of replicas: each step of all models as one batched computation."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from seqlab.contracts import Batch
from seqlab.distributed.signals import StopRequest
from seqlab.errors import one_line
from seqlab.training.process_state import restored_process_state
from seqlab.training.replicas.losses import batched_losses, stacked_batches
from seqlab.training.replicas.replica import Replica, optimizer_refusal, own_loss
from seqlab.training.replicas.stack import Stack, layout

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
"""Relative difference of a replica's loss in the group to that of its own model at which it leaves the group."""


def train_together(
    runs: Sequence[Callable[[], Any]], enter: Sequence[Callable[[], None]] | None = None
) -> list[Replica]:
    """Do runs side by side in one process; each training step of all of them is one batched computation.

    Where a run cannot be batched, the reason is logged and it trains by itself.

    Args:
        runs: each does one run from its data to its results, by :func:`seqlab.training.run.run`.
        enter: for each run, restores state of the process at the start of its turns.

    Returns:
        The replicas, each with its ``result``, or with the error that ended it in ``turn.error``.
    """
    restore = enter or [lambda: None] * len(runs)
    request = StopRequest()
    replicas = [Replica(run, own, request) for run, own in zip(runs, restore, strict=True)]
    with restored_process_state(), request.handling_signals():
        for replica in replicas:
            replica.resume()
        while waiting := [replica for replica in replicas if replica.waits]:
            _train_waiting(waiting)
    return replicas


def _train_waiting(waiting: Sequence[Replica]) -> None:
    """Train until a run ends, and the others from where they are."""
    for reason, few in _divided(waiting):
        if reason is None and len(few) > 1:
            Group(few).train()
            continue
        for replica in few:
            if replica.is_checked:
                replica.alone = "the others have ended"
            else:
                replica.return_batch()  # of a check that another one failed
                replica.train_alone(reason or "no other run has a model of this shape")
            replica.resume()


def _divided(waiting: Sequence[Replica]) -> list[tuple[str | None, list[Replica]]]:
    """Divide replicas by shape; those that cannot be batched come with the reason."""
    found: dict[Any, list[Replica]] = {}
    for replica in waiting:
        key: Any = None
        if (reason := optimizer_refusal(replica)) is None:
            kinds = [type(part) for part in replica.session.model.modules()]
            key = (tuple(layout(replica.member)), tuple(kinds), _options(replica), str(replica.module.device))
        found.setdefault((reason, key), []).append(replica)
    return [(reason, replicas) for (reason, _), replicas in found.items()]


def _options(replica: Replica) -> str:
    """Return what must be equal for replicas: the optimiser's options except its rates."""
    groups = replica.trainer.optimizers[0].param_groups
    rates = ("params", "lr", "initial_lr", "weight_decay")
    return repr([{key: group[key] for key in sorted(group) if key not in rates} for group in groups])


@final
class Group:
    """Replicas of one shape that take their steps together.

    Args:
        replicas: two or more, of equal layout.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = list(replicas)

    def train(self) -> None:
        """Take steps until a replica has ended or trains by itself."""
        if not self._check():
            return
        stack = Stack([replica.member for replica in self.replicas])
        held = _held(self.replicas)
        for replica in self.replicas:
            cost = replica.session.cost
            cost.together, cost.replicas = len(self.replicas), max(len(self.replicas), cost.replicas)
        torch.set_num_threads(self.replicas[0].session.threads.number)
        model_of = self.replicas[0]
        while all(replica.waits for replica in self.replicas):
            try:
                self._step(stack, held, model_of)
            except Exception as error:  # each run reports it as its own
                for replica in self.replicas:
                    replica.failure = error
                    replica.resume()
        for replica in self.replicas:
            stack.release(replica.member)
            replica.session.cost.together = 1

    def _step(self, stack: Stack, held: Mapping[str, Tensor], first: Replica) -> None:
        """Take one step, and give those replicas their turns that validate or end after it."""
        began = time.perf_counter()
        replicas = self.replicas
        batches = [replica.fetch() for replica in replicas]
        for replica in replicas:
            replica.begin_step()
        losses, gradients = _gradients(stack, held, first, batches)
        each = losses.unbind()
        fine = [True] * len(replicas)
        if not bool(losses.isfinite().all()):
            fine = [replica.accepts("loss", loss) for replica, loss in zip(replicas, each, strict=True)]
        fine_loss = fine
        if limit := first.trainer.gradient_clip_val:
            norms = torch.linalg.vector_norm(gradients, dim=1)
            gradients.mul_((limit / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1))
            checked = zip(replicas, fine, norms.tolist(), strict=True)
            fine = [accepted and replica.accepts("gradient", norm) for replica, accepted, norm in checked]
        stack.update(gradients, fine)
        turns = []
        for replica, loss, accepted in zip(replicas, each, fine_loss, strict=True):
            if replica.end_step(loss if accepted else None):
                turns.append(replica)
        share = (time.perf_counter() - began) / len(replicas)
        for replica in replicas:
            replica.session.cost.seconds += share
            replica.session.budget.pause(share)
        for replica in turns:
            replica.resume()

    def _check(self) -> bool:
        """Compare the losses of the first step with those of each model by itself; send away those that differ."""
        replicas = self.replicas
        if all(replica.is_checked for replica in replicas):
            return True
        batches: list[Batch] = []
        reasons: list[str | None] = []
        own: list[float] = []
        for replica in replicas:
            try:
                batches.append(replica.fetch())
                loss, reason = own_loss(replica, batches[-1])
            except Exception as error:  # the run reports it as its own
                replica.failure = error
                replica.resume()
                return False
            own.append(loss)
            reasons.append(reason)
        if not any(reasons):
            reasons = self._differences(own, batches)
        if not any(reasons):
            for replica in replicas:
                replica.is_checked = True
            return True
        for replica, reason in zip(replicas, reasons, strict=True):
            if reason is not None:
                replica.return_batch()
                replica.train_alone(reason)
                replica.resume()
        return False

    def _differences(self, own: Sequence[float], batches: Sequence[Batch]) -> list[str | None]:
        """Return for each replica how its loss in the group differs from its own."""
        first = self.replicas[0]
        found = torch.zeros(len(self.replicas), dtype=torch.float64)
        try:
            models = [dict(replica.session.model.named_parameters()) for replica in self.replicas]
            values = {name: torch.stack([each[name].detach() for each in models]) for name, *_ in layout(first.member)}
            held = _held(self.replicas)
            for stacked in stacked_batches(batches):
                rows = torch.tensor(stacked.places)
                some = {name: value[rows].requires_grad_() for name, value in values.items()}
                some_held = {name: value[rows] for name, value in held.items()}
                losses = batched_losses(first.session.model, first.session.task, some, some_held, stacked)
                torch.autograd.grad(losses.sum(), list(some.values()))  # which a part without a gradient refuses
                found[rows] = losses.detach().cpu().double()
        except Exception as error:  # code of plugins, which vmap may fail anyhow
            return [f"it cannot be batched: {one_line(error)[:200]}"] * len(self.replicas)
        limit = _TOLERANCE[next(iter(values.values())).dtype]
        return [
            None
            if math.isclose(alone, together, rel_tol=limit, abs_tol=limit) or alone != alone
            else f"its loss in the group is {together:.6g}, by itself {alone:.6g}"
            for alone, together in zip(own, found.tolist(), strict=True)
        ]


def _held(replicas: Sequence[Replica]) -> dict[str, Tensor]:
    """Return the tensors of the models that are not trained, ``[replica, ...]`` by name."""
    trained = {name for name, *_ in layout(replicas[0].member)}
    tensors = [
        {
            name: value.detach()
            for name, value in (*replica.session.model.named_parameters(), *replica.session.model.named_buffers())
            if name not in trained
        }
        for replica in replicas
    ]
    return {name: torch.stack([each[name] for each in tensors]) for name in tensors[0]}


def _gradients(
    stack: Stack, held: Mapping[str, Tensor], first: Replica, batches: Sequence[Batch]
) -> tuple[Tensor, Tensor]:
    """Return the losses ``[replica]`` and their gradients ``[replica, parameter]``."""
    model, task = first.session.model, first.session.task
    found = stacked_batches(batches)
    if len(found) == 1:
        parameters = stack.parameters()
        losses = batched_losses(model, task, parameters, held, found[0])
        return losses.detach(), stack.flat(torch.autograd.grad(losses.sum(), list(parameters.values())))
    values: Tensor | None = None
    gradients = torch.empty_like(stack.values)
    for stacked in found:
        rows = torch.tensor(stacked.places)
        parameters = stack.parameters(rows)
        own_held = {name: value[rows] for name, value in held.items()}
        losses = batched_losses(model, task, parameters, own_held, stacked)
        gradients[rows] = stack.flat(torch.autograd.grad(losses.sum(), list(parameters.values())))
        if values is None:
            values = losses.new_empty(len(batches))
        values[rows] = losses.detach()
    assert values is not None
    return values, gradients
