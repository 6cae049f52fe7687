"""What a recurrent model does along one text: states, gates, what it would answer, and what the answer hangs on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from seqlab.contracts import Batch, LanguageTask, Ragged, UserError
from seqlab.contracts.probe import Gate
from seqlab.contracts.task import label_names
from seqlab.inference.loading import Trained
from seqlab.recurrence.recording import CellTrace, Recording
from seqlab.study.plotting import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor


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
    is_next = isinstance(task, LanguageTask)
    labels = label_names(task)
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
def _view(track: CellTrace) -> LayerView:
    x, states = track.probe_arguments()
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


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MOST_TICKS = 130
_ANNOTATED = 60


def draw_inspection(seen: Inspection, layers: Sequence[LayerView], title: str) -> "Figure":
    """Draw the answers after each symbol, what the last of them hangs on, and the states and gates of some layers.

    Args:
        seen: what happened.
        layers: those of its layers that are to be shown.
        title: what was read, by what.
    """
    from matplotlib.figure import Figure

    maps = [(view, name, leaf, None) for view in layers for name, leaf in view.states.items()]
    shown: list[tuple[LayerView, str, Tensor, Gate | None]] = []
    for view in layers:
        shown += [each for each in maps if each[0] is view]
        shown += [(view, name, gate.values, gate) for name, gate in view.gates.items()]
    time = len(seen.symbols)
    heights = [2.2, 1.1, *(1.35 for _ in shown)]
    figure = Figure(figsize=(float(np.clip(0.21 * time + 3.4, 8, 26)), sum(heights) + 1), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _answers(panels[0], seen)
    _gradients(panels[1], seen)
    for axes, (view, name, values, gate) in zip(panels[2:], shown, strict=True):
        _map(axes, view, name, values, gate)
    _ticks(list(panels), seen.symbols)
    figure.suptitle(drawable(title).replace("\u2423", " "), fontsize=11, parse_math=False)
    return figure


def _answers(axes: "Axes", seen: Inspection) -> None:
    steps = range(len(seen.symbols))
    if seen.is_next:
        best = [answer[0]["probability"] for answer in seen.answers]
        axes.plot(steps, best, color="0.6", marker=".", linewidth=1, label="likeliest next symbol")
        axes.bar(steps[:-1], seen.chances, color=_COLOURS[0], alpha=0.7, label="the one that came")
        if len(steps) <= _ANNOTATED:
            for step, answer in zip(steps, seen.answers, strict=True):
                label = drawable(str(answer[0]["label"]))[:8]
                style: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "bottom", "parse_math": False}
                axes.annotate(label, (step, best[step]), (0, 2), textcoords="offset points", **style)
        axes.set_title("prediction after each symbol", fontsize=9, loc="left")
    else:
        for label, colour in zip(_labels(seen), _COLOURS, strict=False):
            series = [_probability(answer, label) for answer in seen.answers]
            axes.plot(steps, series, color=colour, marker=".", linewidth=1.6, label=drawable(label).replace("␣", " "))
        axes.set_title("answer, if the text ended here", fontsize=9, loc="left")
    axes.set_ylim(0, 1.3)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("probability")
    axes.grid(visible=True, alpha=0.2)
    axes.legend(frameon=False, fontsize=7.5, loc="upper left", ncols=6)
    axes.spines[["top", "right"]].set_visible(False)


def _labels(seen: Inspection) -> list[str]:
    """Choose the labels that were likeliest at any step, the last answer first."""
    most: dict[str, float] = {}
    for answer in seen.answers:
        for one in answer:
            label = str(one["label"])
            most[label] = max(most.get(label, 0), one["probability"])
    order = sorted(most, key=lambda label: (label != seen.answer, -most[label]))
    return order[: len(_COLOURS)]


def _probability(answer: list[dict[str, object]], label: str) -> float:
    found = [one["probability"] for one in answer if str(one["label"]) == label]
    return float(found[0]) if found else float("nan")  # type: ignore[arg-type]  # a probability


def _gradients(axes: "Axes", seen: Inspection) -> None:
    axes.bar(range(len(seen.symbols)), seen.gradients, color=_COLOURS[1], alpha=0.85)
    axes.set_ylabel("gradient")
    answer = drawable(seen.answer)
    axes.set_title(
        f"norm of the gradient of ln p({answer}) = {np.log(seen.probability):.3f} to each input vector",
        fontsize=9, loc="left", parse_math=False,
    )  # fmt: skip
    axes.grid(visible=True, axis="y", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _map(axes: "Axes", view: LayerView, name: str, values: "Tensor", gate: Gate | None) -> None:
    """Draw units against steps: states and what goes both ways around 0, gates from 0 on."""
    table = values.numpy().T
    if gate is not None and gate.low == 0:
        high = gate.high if gate.high < float("inf") else float(table.max()) or 1.0
        picture = axes.imshow(table, aspect="auto", cmap="cividis", vmin=0, vmax=high, interpolation="nearest")
    else:
        reach = float(np.abs(table).max()) or 1.0 if gate is None else gate.high
        picture = axes.imshow(table, aspect="auto", cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    what = "state" if gate is None else "gate"
    axes.set_title(f"layer {view.layer}, {view.direction}: {what} {name}", fontsize=9, loc="left")
    axes.set_ylabel("unit")
    axes.figure.colorbar(picture, ax=axes, pad=0.01, aspect=8)


def _ticks(panels: Sequence["Axes"], symbols: Sequence[str]) -> None:
    every = -(-len(symbols) // _MOST_TICKS)
    places = range(0, len(symbols), every)
    names = [drawable(symbols[place])[:14] for place in places]
    turned = any(len(name) > 1 for name in names)
    panels[-1].set_xticks(places, names, rotation=90 if turned else 0, fontsize=8, parse_math=False)
    panels[-1].set_xlim(-0.6, len(symbols) - 0.4)
    panels[-1].set_xlabel("symbols of the text, in the order of reading" if every == 1 else f"every {every}th symbol")
    for axes in panels:
        axes.tick_params(axis="y", labelsize=8)
