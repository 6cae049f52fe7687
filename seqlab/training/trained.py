"""A trained model, taken from its run folder alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch

from seqlab._version import __version__
from seqlab.contracts import Batch, InputSpec, Model, Preprocessor, Task, UserError
from seqlab.discovery import find
from seqlab.discovery.registry import one_line
from seqlab.training import runfolder
from seqlab.training.assemble import build_model, build_preprocessor, build_task
from seqlab.training.data import truncate


@final
class Trained:
    """A model and what it needs to read texts.

    Attributes:
        folder: where it comes from.
        task: knows labels.
        preprocessor: knows symbols; ``None`` for a task of tensors.
        model: in evaluation mode.
    """

    def __init__(self, folder: Path, task: Task, preprocessor: Preprocessor | None, model: Model) -> None:
        self.folder, self.task, self.preprocessor, self.model = folder, task, preprocessor, model.eval()

    @torch.inference_mode()
    def predict(self, texts: Sequence[str], top: int = 3, batch_size: int = 256) -> list[Any]:
        """Predict for texts, in their order.

        Args:
            texts: any number of them.
            top: how many of the likeliest answers to give for each.
            batch_size: texts a batch; the result does not depend on it.

        Returns:
            For each text what the task's ``decode`` gives: for a classification a list of
            ``{"label": ..., "probability": ...}``, the likeliest first.

        Raises:
            UserError: the task's inputs are no texts, or one of them has nothing in it to read.
        """
        if self.preprocessor is None:
            raise UserError(f"{self.folder}: this task's inputs are no texts, so there is nothing to predict from")
        if isinstance(texts, str):
            raise UserError("predict takes a list of texts; put the one text into a list")
        encoded = self.preprocessor.encode(texts)
        for text, length in zip(texts, encoded.lengths.tolist(), strict=True):
            if length == 0:
                raise UserError(f"the text {text!r} has nothing in it to read")
        if self.task.sequence_length is not None and self.task.sequence_length_means == "maximum":
            encoded = truncate(encoded, self.task.sequence_length)
        predictions: list[Any] = [None] * len(texts)
        for rows in torch.split(encoded.lengths.argsort(stable=True), batch_size):
            inputs, lengths = encoded.padded(rows)
            outputs, _ = self.model(Batch(inputs, lengths, torch.empty(0)))
            for row, answer in zip(rows.tolist(), self.task.decode(outputs, top), strict=True):
                predictions[row] = answer
        return predictions


def write_card(folder: Path, config: Mapping[str, Any], task: Task, data_inputs: InputSpec) -> None:
    """Write ``model.json``: which plugins make the model, with which parameters."""
    kinds = ("task", "preprocessing", "model", "cell", "kernel")
    runfolder.write_json(
        folder / runfolder.MODEL_CARD,
        {
            "format": runfolder.FORMAT,
            "seqlab": __version__,
            "inputs": dataclasses.asdict(data_inputs),
            "task_state": task.state_dict(),
            **{kind: _entry(kind, config.get(kind)) for kind in kinds},
        },
    )


def _entry(kind: str, node: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if node is None:
        return None
    parameters = {key: value for key, value in node.items() if key != "name"}
    entry: dict[str, Any] = {"name": node["name"], "parameters": parameters}
    if kind != "kernel":
        plugin = find(kind, node["name"])
        entry |= {"distribution": plugin.distribution, "version": plugin.version}
    return entry


def write_preprocessor(folder: Path, preprocessor: Preprocessor | None) -> None:
    """Write ``preprocessor.json``: what fitting learned."""
    state = None if preprocessor is None else preprocessor.state_dict()
    runfolder.write_json(folder / runfolder.PREPROCESSOR, {"format": runfolder.FORMAT, "state": state})


def load(run_dir: str | Path) -> Trained:
    """Load a trained model; nothing but its run folder and the plugins it names is needed.

    Args:
        run_dir: the folder that a run wrote.

    Raises:
        UserError: it is no run folder, a file of it is damaged or newer than this seqlab, or a plugin is missing.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder, so no run can be in it")
    card = runfolder.read_json(folder / runfolder.MODEL_CARD)
    if card.get("format") != runfolder.FORMAT:
        raise UserError(
            f"{folder} has format {card.get('format')}, written by seqlab {card.get('seqlab')};"
            f" this is seqlab {__version__}, which reads format {runfolder.FORMAT}"
        )
    weights = runfolder.read_weights(folder / runfolder.MODEL)
    state = runfolder.read_json(folder / runfolder.PREPROCESSOR).get("state") or {}
    try:
        nodes = {kind: _node(card[kind]) for kind in ("task", "preprocessing", "model", "cell", "kernel")}
        task = build_task(_present(nodes["task"]))
        task.load_state_dict(card["task_state"])
        preprocessor = build_preprocessor(nodes["preprocessing"])
        if preprocessor is not None:
            preprocessor.load_state_dict(dict(state))
        model = build_model(nodes, task, InputSpec(**card["inputs"]))
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{folder} does not fit together: {type(error).__name__}: {one_line(error)[:300]}") from error
    return Trained(folder, task, preprocessor, model)


def _node(entry: Any) -> dict[str, Any] | None:
    return None if entry is None else {**entry["parameters"], "name": entry["name"]}


def _present(node: dict[str, Any] | None) -> dict[str, Any]:
    if node is None:
        raise KeyError("task")
    return node
