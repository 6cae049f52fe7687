"""What a recurrent model does along one text: states, gates, what it would answer, and what the answer hangs on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from seqlab.contracts import Batch, Ragged, UserError
from seqlab.contracts.probe import Gate
from seqlab.recurrence.record import Recording, Track
from seqlab.training.trained import Trained

MOST_STEPS = 500
"""Steps of a text that a picture can show."""
_NEXT = 5


@final
@dataclass(frozen=True)
class LayerView:
    """One layer in one direction, in the order of the text.

    Attributes:
        layer: counted from 0.
        direction: ``forward`` or ``backward``.
        states: by leaf, after each step, ``[time, units]``.
        gates: by name, ``[time, units]`` each; none for a cell that does not show its gates.
    """

    layer: int
    direction: str
    states: Mapping[str, Tensor]
    gates: Mapping[str, Gate]


@final
@dataclass(frozen=True)
class Inspection:
    r"""What came of a text.

    Attributes:
        symbols: what was read at each step.
        cut: steps of the text that were not read (``task.sequence_length``).
        layers: all of them.
        answers: what the model would answer after each step, the likeliest first: ``label`` and ``probability``. Of
            labels all, of next symbols a few.
        is_next: whether an answer is the next symbol, not a label of the text.
        answer: the last answer.
        probability: of it.
        gradients: :math:`\|∂ \ln p(\text{answer}) / ∂ x_t\|_2` for each step's input vector :math:`x_t`.
        chances: of a model that predicts the next symbol, the probability it gave to the one that came, from the
            second step on.
    """

    symbols: list[str]
    cut: int
    layers: list[LayerView]
    answers: list[list[dict[str, Any]]]
    is_next: bool
    answer: str
    probability: float
    gradients: list[float]
    chances: list[float]


def inspect(trained: Trained, text: str) -> Inspection:
    """Read a text with a trained model, by the loop and in double precision, and keep all that happened.

    Args:
        trained: its task reads texts and labels them, or predicts what comes next.
        text: to be read.

    Raises:
        UserError: the model is not recurrent, its task has no answers to show, or the text is empty or too long.
    """
    ids, cut = _ids(trained, text)
    task = trained.task
    is_next = task.carries_state and task.per_step
    labels = task.label_names()
    if not is_next and (task.per_step or labels is None):
        raise UserError(f"{trained.folder}: its task neither labels a text nor predicts what comes next")
    recording = _recording(trained)
    with torch.enable_grad(), torch.random.fork_rng([]):
        outputs = recording.network(Batch(ids.unsqueeze(0), None, torch.empty(0)))[0][0]
        logs = (outputs[-1] if is_next else outputs).log_softmax(-1)
        best = int(logs.argmax())
        (gradient,) = torch.autograd.grad(logs[best], recording.tracks[0].inputs)
    found = outputs.detach().float()
    answers = task.decode(found, _NEXT) if is_next else trained.answers(_prefixes(ids), len(labels or ()))
    return Inspection(
        symbols=_symbols(trained, ids),
        cut=cut,
        layers=[_view(track) for track in recording.tracks],
        answers=answers,
        is_next=is_next,
        answer=str(answers[-1][0]["label"]),
        probability=float(logs[best].detach().exp()),
        gradients=gradient[:, 0].flatten(1).norm(dim=1).tolist(),
        chances=_chances(found, ids) if is_next else [],
    )


def _recording(trained: Trained) -> Recording:
    recording = Recording(trained.model)
    if recording.is_recurrent:
        return recording
    name = trained.nodes.get("model", {}).get("name", type(trained.model).__name__)
    raise UserError(f"{trained.folder}: model={name} is not recurrent, so that there are no states or gates to show")


def _ids(trained: Trained, text: str) -> tuple[Tensor, int]:
    ids = trained.encode([text]).values
    read = ids if trained.longest is None else ids[: trained.longest]
    if not len(read):
        raise UserError(f"the text {text!r} has nothing in it to read")
    if len(read) > MOST_STEPS:
        raise UserError(f"the text has {len(read):,} steps; a picture shows at most {MOST_STEPS}: take a part of it")
    return read, len(ids) - len(read)


def _prefixes(ids: Tensor) -> Ragged:
    return Ragged.of([ids[: end + 1] for end in range(len(ids))])


def _symbols(trained: Trained, ids: Tensor) -> list[str]:
    assert trained.preprocessor is not None
    symbols = trained.preprocessor.symbols
    return [str(index) if symbols is None else symbols[index] for index in ids.tolist()]


def _chances(outputs: Tensor, ids: Tensor) -> list[float]:
    given = outputs[:-1].softmax(-1)
    return [float(chance) for chance in given.gather(1, ids[1:].unsqueeze(1)).flatten()]


@torch.no_grad()
def _view(track: Track) -> LayerView:
    x, states = track.ends()
    gates = track.cell.probe(x, states).gates
    backward = track.direction == "backward"

    def ordered(values: Tensor) -> Tensor:
        values = values.detach()[:, 0].flatten(1)
        return values.flip(0) if backward else values

    names = track.cell.state_names
    return LayerView(
        track.layer,
        track.direction,
        {name: ordered(leaf[1:]) for name, leaf in zip(names, states, strict=True) if leaf.is_floating_point()},
        {name: Gate(ordered(gate.values), gate.low, gate.high) for name, gate in gates.items()},
    )
