"""Inspection of a recurrent model along one text: states, gates, predictions and their sensitivity to the input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from seqlab.contracts import Batch, LanguageTask, Ragged, UserError
from seqlab.contracts.cell import Gate
from seqlab.contracts.task import label_names
from seqlab.inference import Trained
from seqlab.recurrence.recording import Recording
from seqlab.study.modules import LayerView, viewer
from seqlab.study.plotting import COLOURS, drawable, label_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MAX_STEPS = 500
"""Steps of a text that a figure can show."""
_TOP = 5
"""Predictions of the next symbol that are kept."""


@final
@dataclass(frozen=True)
class Inspection:
    r"""Behaviour of a model along a text.

    Attributes:
        symbols: input of each step.
        cut: steps of the text beyond ``task.sequence_length``, which were not read.
        layers: all of them.
        predictions: after each step, the most probable first, with ``label`` and ``probability``: all labels, or a few
            next symbols.
        is_next: whether the model predicts the next symbol instead of a label.
        prediction: most probable label after the last step.
        probability: of ``prediction``.
        gradients: :math:`\|∂ \ln p(\text{prediction}) / ∂ x_t\|_2` for the input vector :math:`x_t` of each step.
        next_probabilities: of the symbol that follows each step but the last, if ``is_next``.
    """

    symbols: list[str]
    cut: int
    layers: list[LayerView]
    predictions: list[list[dict[str, Any]]]
    is_next: bool
    prediction: str
    probability: float
    gradients: list[float]
    next_probabilities: list[float]


def inspect(trained: Trained, text: str) -> Inspection:
    """Read a text with the reference loop in float64 and record what the model does.

    Raises:
        UserError: the model is not recurrent, its task makes no such prediction, or the text is empty or too long.
    """
    ids, cut = _ids(trained, text)
    task = trained.task
    is_next = isinstance(task, LanguageTask)
    labels = label_names(task)
    if not is_next and (task.per_step or labels is None):
        raise UserError(f"{trained.folder}: its task neither labels a text nor predicts the next symbol")
    recording = Recording(trained.model)
    if not recording.is_recurrent:
        name = trained.nodes.get("model", {}).get("name", type(trained.model).__name__)
        raise UserError(f"{trained.folder}: model={name} is not recurrent: it has no states or gates to show")
    with torch.enable_grad(), torch.random.fork_rng([]):
        outputs = recording.network(Batch(ids.unsqueeze(0), None, torch.empty(0)))[0][0]
        logs = (outputs[-1] if is_next else outputs).log_softmax(-1)
        best = int(logs.argmax())
        (gradient,) = torch.autograd.grad(logs[best], recording.inputs[0])
    found = outputs.detach().float()
    prefixes = Ragged.of([ids[: end + 1] for end in range(len(ids))])
    predictions = task.decode(found, _TOP) if is_next else trained.predict_encoded(prefixes, len(labels or ()))
    following = found[:-1].softmax(-1).gather(1, ids[1:].unsqueeze(1)).flatten().tolist() if is_next else []
    return Inspection(
        symbols=_symbols(trained, ids),
        cut=cut,
        layers=[viewer(track)(0) for track in recording.tracks],
        predictions=predictions,
        is_next=is_next,
        prediction=str(predictions[-1][0]["label"]),
        probability=float(logs[best].detach().exp()),
        gradients=gradient.flatten(0, -2)[: len(ids)].norm(dim=1).tolist(),
        next_probabilities=following,
    )


def _ids(trained: Trained, text: str) -> tuple[Tensor, int]:
    ids = trained.encode([text]).values
    read = ids if trained.longest is None else ids[: trained.longest]
    if not len(read):
        raise UserError(f"the text {text!r} has nothing in it to read")
    if len(read) > MAX_STEPS:
        raise UserError(f"the text has {len(read):,} steps; a figure shows at most {MAX_STEPS}: shorten the text")
    return read, len(ids) - len(read)


def _symbols(trained: Trained, ids: Tensor) -> list[str]:
    assert trained.preprocessor is not None
    symbols = trained.preprocessor.symbols
    return [str(index) if symbols is None else symbols[index] for index in ids.tolist()]


_MAX_TICKS = 130
_MAX_ANNOTATED = 60


def draw_inspection(found: Inspection, layers: Sequence[LayerView], title: str) -> "Figure":
    """Draw the predictions, the sensitivity of the last one to each input, and states and gates of some layers."""
    maps = _maps(layers)
    heights = [2.2, 1.1, *(1.35 for _ in maps)]
    figure = new_figure(float(np.clip(0.21 * len(found.symbols) + 3.4, 8, 26)), sum(heights) + 1)
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _draw_predictions(panels[0], found)
    panels[1].bar(range(len(found.symbols)), found.gradients, color=COLOURS[1], alpha=0.85)
    log_probability = f"ln p({drawable(found.prediction)}) = {np.log(found.probability):.3f}"
    label_axes(panels[1], "", "gradient", f"norm of the gradient of {log_probability} to each input vector")
    for axes, (view, name, values, gate) in zip(panels[2:], maps, strict=True):
        _draw_map(axes, view, name, values, gate)
    _set_ticks(list(panels), found.symbols)
    figure.suptitle(drawable(title).replace("\u2423", " "), fontsize=11, parse_math=False)
    return figure


def _maps(layers: Sequence[LayerView]) -> list[tuple[LayerView, str, Tensor, Gate | None]]:
    """Return each state and gate of some layers, with its name."""
    maps: list[tuple[LayerView, str, Tensor, Gate | None]] = []
    for view in layers:
        maps += [(view, name, state, None) for name, state in view.states.items()]
        maps += [(view, name, gate.values, gate) for name, gate in view.gates.items()]
    return maps


def draw_layers(
    layers: Sequence[LayerView], title: str = "", symbols: Sequence[str] = (), sensitivity: Sequence[float] = ()
) -> "Figure":
    """Draw states and gates of the layers of any module (:meth:`seqlab.study.modules.Recorded.views`).

    Args:
        layers: at least one, with one number of steps.
        title: of the figure.
        symbols: of each step; none: its number.
        sensitivity: norm of the gradient of the loss to the input of each step; none: not drawn.
    """
    maps = _maps(layers)
    steps = len(maps[0][2])
    extra = int(len(sensitivity) > 0)
    figure = new_figure(float(np.clip(0.21 * steps + 3.4, 8, 26)), 1.35 * (len(maps) + extra) + 1)
    panels = list(figure.subplots(len(maps) + extra, 1, sharex=True, squeeze=False)[:, 0])
    if extra:
        panels[0].bar(range(steps), [float(each) for each in sensitivity], color=COLOURS[1], alpha=0.85)
        label_axes(panels[0], "", "gradient", "norm of the gradient of the loss to the input of each step")
    for axes, (view, name, values, gate) in zip(panels[extra:], maps, strict=True):
        _draw_map(axes, view, name, values, gate)
    _set_ticks(panels, list(symbols) or [str(step) for step in range(steps)])
    figure.suptitle(drawable(title).replace("\u2423", " "), fontsize=11, parse_math=False)
    return figure


def _draw_predictions(axes: "Axes", found: Inspection) -> None:
    steps = range(len(found.symbols))
    if found.is_next:
        best = [each[0]["probability"] for each in found.predictions]
        axes.plot(steps, best, color="0.6", marker=".", linewidth=1, label="most probable next symbol")
        axes.bar(steps[:-1], found.next_probabilities, color=COLOURS[0], alpha=0.7, label="actual next symbol")
        if len(steps) <= _MAX_ANNOTATED:
            for step, each in zip(steps, found.predictions, strict=True):
                label = drawable(str(each[0]["label"]))[:8]
                style: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "bottom", "parse_math": False}
                axes.annotate(label, (step, best[step]), (0, 2), textcoords="offset points", **style)
        title = "prediction after each symbol"
    else:
        by_step = [{str(one["label"]): float(one["probability"]) for one in each} for each in found.predictions]
        most = {label: max(each.get(label, 0) for each in by_step) for each in by_step for label in each}
        ranked = sorted(most, key=lambda label: (label != found.prediction, -most[label]))
        for label, colour in zip(ranked, COLOURS, strict=False):
            series = [each.get(label, float("nan")) for each in by_step]
            axes.plot(steps, series, color=colour, marker=".", linewidth=1.6, label=drawable(label).replace("␣", " "))
        title = "prediction if the text ended here"
    label_axes(axes, "", "probability", title)
    axes.set_ylim(0, 1.3)
    axes.set_yticks([0, 0.5, 1])
    axes.legend(frameon=False, fontsize=7.5, loc="upper left", ncols=6)


def _draw_map(axes: "Axes", view: LayerView, name: str, values: Tensor, gate: Gate | None) -> None:
    """Draw units against steps, with colours centred on 0 for states and gates of both signs, else from 0 on."""
    table = values.numpy().T
    if gate is not None and gate.low == 0:
        high = gate.high if gate.high < float("inf") else float(table.max()) or 1.0
        image = axes.imshow(table, aspect="auto", cmap="cividis", vmin=0, vmax=high, interpolation="nearest")
    else:
        high = float(np.abs(table).max()) or 1.0 if gate is None else gate.high
        image = axes.imshow(table, aspect="auto", cmap="RdBu_r", vmin=-high, vmax=high, interpolation="nearest")
    kind = "state" if gate is None else "gate"
    axes.set_title(f"layer {view.layer}, {view.direction}: {kind} {name}", fontsize=10, loc="left")
    axes.set_ylabel("unit")
    axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=8)


def _set_ticks(panels: Sequence["Axes"], symbols: Sequence[str]) -> None:
    every = -(-len(symbols) // _MAX_TICKS)
    places = range(0, len(symbols), every)
    names = [drawable(symbols[place])[:14] for place in places]
    rotation = 90 if any(len(name) > 1 for name in names) else 0
    panels[-1].set_xticks(places, names, rotation=rotation, fontsize=8, parse_math=False)
    panels[-1].set_xlim(-0.6, len(symbols) - 0.4)
    panels[-1].set_xlabel("symbols in reading order" if every == 1 else f"every {every}th symbol")
    for axes in panels:
        axes.tick_params(axis="y", labelsize=8)
