"""A trained model, taken from its run folder alone."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from seqlab.config.build import build_model, build_preprocessor, build_task
from seqlab.contracts import Batch, InputSpec, Model, Preprocessor, Ragged, Task, UserError
from seqlab.data.encoding import parse_symbols, symbols_of, truncate
from seqlab.errors import one_line
from seqlab.io.safe_io import check_names
from seqlab.io.tensors import allocation_limit, count_numbers
from seqlab.runs import run_folder
from seqlab.runs.card import other_plugins, read_card, read_preprocessor

log = logging.getLogger("seqlab")

_MOST_STEPS = 2**19
"""Steps in a batch, padding included: one long text must not make a batch of many as long."""


@final
class Trained:
    """A model and what it needs to read texts.

    Attributes:
        folder: where it comes from.
        task: knows labels.
        preprocessor: knows symbols; ``None`` for a task of tensors.
        model: in evaluation mode.
        nodes: the config of each plugin by kind, as ``model.json`` has it.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        preprocessor: Preprocessor | None,
        model: Model,
        nodes: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.task, self.preprocessor, self.model = folder, task, preprocessor, model.eval()
        self.nodes = dict(nodes or {})

    @property
    def longest(self) -> int | None:
        """The steps of a text that are read; the rest is cut off, as in training. ``None`` cuts nothing."""
        return self.task.sequence_length if self.task.sequence_length_means == "maximum" else None

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode texts, or symbols with blanks between them for a task of tensors that names them; nothing is cut yet.

        Raises:
            UserError: the task's inputs are neither, or a text has in it what is no symbol.
        """
        if isinstance(texts, str):
            raise UserError("predict takes a list of texts; put the one text into a list")
        if self.preprocessor is not None:
            return self.preprocessor.encode(texts)
        if (symbols := symbols_of(self.task.inputs)) is None:
            raise UserError(f"{self.folder}: this task's inputs are no texts, so there is nothing to predict from")
        return parse_symbols(texts, symbols)

    @torch.inference_mode()
    def outputs(self, encoded: Ragged, batch_size: int = 256) -> Iterator[tuple[Tensor, Batch, Tensor]]:
        """Compute the model's outputs, sequences of like length together.

        Args:
            encoded: what :meth:`encode` gave; what is longer than :attr:`longest` is cut off.
            batch_size: sequences a batch, at most; the result does not depend on it.

        Yields:
            The rows ``[batch]`` of ``encoded`` that make a batch, the batch without targets, and its outputs.
        """
        if self.longest is not None:
            encoded = truncate(encoded, self.longest)
        for rows in _batches(encoded.lengths, batch_size):
            inputs, lengths = encoded.padded(rows)
            batch = Batch(inputs, lengths, torch.empty(0))
            outputs, _ = self.model(batch)
            yield rows, batch, outputs

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
        encoded = self.encode(texts)
        for text, length in zip(texts, encoded.lengths.tolist(), strict=True):
            if length == 0:
                raise UserError(f"the text {text!r} has nothing in it to read")
        return self.answers(encoded, top, batch_size)

    def answers(self, encoded: Ragged, top: int = 3, batch_size: int = 256) -> list[Any]:
        """Predict for encoded texts, as :meth:`predict` does; ``None`` for a text with nothing in it to read."""
        answers: list[Any] = [None] * len(encoded)
        for rows, batch, outputs in self.outputs(encoded, batch_size):
            if batch.inputs.shape[1] == 0:  # the batch's longest, and batches are sorted
                continue
            if self.task.carries_state and self.task.per_step:  # what comes after the text
                ends = torch.full((len(rows),), outputs.shape[1]) if batch.lengths is None else batch.lengths
                outputs = outputs[torch.arange(len(rows)), ends.clamp(min=1) - 1]
            for row, answer in zip(rows.tolist(), self.task.decode(outputs, top), strict=True):
                if encoded.lengths[row]:
                    answers[row] = answer
        return answers


def _batches(lengths: Tensor, most: int) -> Iterator[Tensor]:
    """Group rows by length into batches of at most ``most`` rows and, unless it is one row, ``_MOST_STEPS`` steps."""
    order = lengths.argsort(stable=True)
    ordered = lengths[order].tolist()
    start = 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and end - start < most and (end - start + 1) * ordered[end] <= _MOST_STEPS:
            end += 1
        yield order[start:end]
        start = end


def load(run_dir: str | Path, weights: Mapping[str, Tensor] | None = None) -> Trained:
    """Load a trained model; nothing but its run folder and the plugins it names is needed.

    Args:
        run_dir: the folder that a run wrote.
        weights: others than those that validation chose.

    Raises:
        UserError: it is no run folder, a file of it is damaged or newer than this seqlab, or a plugin is missing.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder, so no run can be in it")
    card = read_card(folder)
    given = weights is not None  # those of a step to replay may be anything
    if weights is None:
        weights = run_folder.read_weights(folder / run_folder.MODEL)
    state = read_preprocessor(folder)
    try:
        trained = _assembled(folder, card, state, weights)
        if not given and (wrong := _not_a_number(trained.model)) is not None:
            raise UserError(f"{folder / run_folder.MODEL}: {wrong[:80]!a} has NaN in it, so that no answer is a number")
    except UserError as error:
        if not (others := other_plugins(card)):
            raise
        raise UserError(f"{error}; {others}") from error
    except Exception as error:  # what a constructor makes of a stranger's values is anything
        others = "".join(f"; {line}" for line in [other_plugins(card)] if line)
        said = f"{type(error).__name__}: {one_line(error)[:300]}"
        raise UserError(f"{folder} does not fit together: {said}{others}") from error
    if others := other_plugins(card):
        log.warning("%s: %s", folder, others)
    return trained


def _assembled(
    folder: Path, card: Mapping[str, Any], state: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Trained:
    """Make what the card names, and give it what was learned."""
    nodes = {kind: _node(card[kind]) for kind in ("task", "preprocessing", "model", "cell", "kernel")}
    task = build_task(_present(nodes["task"]))
    task.load_state_dict(card["task_state"])
    check_names(task.label_names() or (), "labels")
    preprocessor = build_preprocessor(nodes["preprocessing"])
    if preprocessor is not None:
        preprocessor.load_state_dict(dict(state))
    symbols = None if preprocessor is None else preprocessor.symbols
    inputs = InputSpec(card["inputs"]["kind"], card["inputs"]["size"], symbols)
    with allocation_limit(count_numbers(weights), f"{folder}: {run_folder.MODEL_CARD}"):
        model = build_model(nodes, task, inputs)
    model.load_state_dict(weights)
    return Trained(folder, task, preprocessor, model, nodes)


def _not_a_number(model: Model) -> str | None:
    """Name a part of a model that has NaN in it."""
    floats = ((name, value) for name, value in model.state_dict().items() if value.is_floating_point())
    return next((name for name, value in floats if bool(value.isnan().any())), None)


def _node(entry: Any) -> dict[str, Any] | None:
    return None if entry is None else {**entry["parameters"], "name": entry["name"]}


def _present(node: dict[str, Any] | None) -> dict[str, Any]:
    if node is None:
        raise KeyError("task")
    return node
