"""Trained models, loaded from their run folders alone, and text generation."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from seqlab.config.build import build_model, build_preprocessor, build_task
from seqlab.contracts import Batch, InputSpec, LanguageTask, Model, Preprocessor, Ragged, Task, UserError
from seqlab.contracts.task import input_spec, label_names, max_length
from seqlab.data.encoding import parse_symbols, symbols_of, truncate
from seqlab.data.tokens import begin_id
from seqlab.errors import one_line
from seqlab.io.safe_io import check_names
from seqlab.io.tensors import allocation_limit, count_elements
from seqlab.runs import run_folder
from seqlab.runs.card import other_plugins, read_card, read_preprocessor

log = logging.getLogger("seqlab")

_MAX_STEPS = 2**19
"""Steps in a batch, with padding: a long text is not batched with many others."""


@final
class Trained:
    """Model with its task and preprocessor.

    Attributes:
        folder: the run folder.
        task: with its labels.
        preprocessor: fitted; ``None`` for a task of tensors.
        model: in evaluation mode.
        nodes: the config node of each plugin by kind, as in ``model.json``.
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
        """Length to which a text is truncated, as in training; ``None`` for no limit."""
        return max_length(self.task)

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode texts, or symbols separated by spaces for a task of tensors that names them, without truncation.

        Raises:
            UserError: the task's inputs are neither, or a text contains an unknown symbol.
        """
        if isinstance(texts, str):
            raise UserError("predict takes a list of texts, got one text; put it into a list")
        if self.preprocessor is not None:
            return self.preprocessor.encode(texts)
        if (symbols := symbols_of(input_spec(self.task))) is None:
            raise UserError(f"{self.folder}: predict needs a task of texts or symbols; this task's inputs are neither")
        return parse_symbols(texts, symbols)

    @torch.inference_mode()
    def outputs(self, encoded: Ragged, batch_size: int = 256) -> Iterator[tuple[Tensor, Batch, Tensor]]:
        """Compute the model's outputs, in batches of similar length.

        Args:
            encoded: as :meth:`encode` returns it; sequences longer than :attr:`longest` are truncated.
            batch_size: sequences in a batch, at most; the result does not depend on it.

        Yields:
            The rows ``[batch]`` of ``encoded`` in a batch, the batch without targets, and its outputs.
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
            top: number of predictions for each, the likeliest first.
            batch_size: texts in a batch; the result does not depend on it.

        Returns:
            What the task's ``decode`` returns for each text: for a classification a list of
            ``{"label": ..., "probability": ...}``.

        Raises:
            UserError: the task's inputs are no texts, or a text is empty after preprocessing.
        """
        encoded = self.encode(texts)
        for text, length in zip(texts, encoded.lengths.tolist(), strict=True):
            if length == 0:
                raise UserError(f"the text {text!r} has nothing in it to read")
        return self.predict_encoded(encoded, top, batch_size)

    def predict_encoded(self, encoded: Ragged, top: int = 3, batch_size: int = 256) -> list[Any]:
        """Predict for encoded texts, as :meth:`predict` does; ``None`` for an empty one."""
        predictions: list[Any] = [None] * len(encoded)
        for rows, batch, outputs in self.outputs(encoded, batch_size):
            if batch.inputs.shape[1] == 0:  # batches are sorted by length, so that all are empty
                continue
            if isinstance(self.task, LanguageTask):  # the token after the text
                ends = torch.full((len(rows),), outputs.shape[1]) if batch.lengths is None else batch.lengths
                outputs = outputs[torch.arange(len(rows)), ends.clamp(min=1) - 1]
            for row, prediction in zip(rows.tolist(), self.task.decode(outputs, top), strict=True):
                if encoded.lengths[row]:
                    predictions[row] = prediction
        return predictions


def _batches(lengths: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Group rows by length into batches of ``batch_size`` rows and ``_MAX_STEPS`` steps at most, or of one row."""
    order = lengths.argsort(stable=True)
    ordered = lengths[order].tolist()
    start = 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and end - start < batch_size and (end - start + 1) * ordered[end] <= _MAX_STEPS:
            end += 1
        yield order[start:end]
        start = end


def load(run_dir: str | Path, weights: Mapping[str, Tensor] | None = None) -> Trained:
    """Load a trained model from its run folder and the plugins that it names.

    Args:
        run_dir: the folder of a run.
        weights: to load in place of the best ones.

    Raises:
        UserError: it is no run folder, a file of it is damaged or newer than this seqlab, or a plugin is missing.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name a run folder")
    card = read_card(folder)
    is_best = weights is None  # the weights of a saved step may hold NaN
    if weights is None:
        weights = run_folder.read_weights(folder / run_folder.MODEL)
    state = read_preprocessor(folder)
    try:
        trained = _build(folder, card, state, weights)
        if is_best and (name := _find_nan(trained.model)) is not None:
            raise UserError(f"{folder / run_folder.MODEL}: {name[:80]!a} has NaN in it")
    except UserError as error:
        if not (others := other_plugins(card)):
            raise
        raise UserError(f"{error}; {others}") from error
    except Exception as error:  # values of a foreign file may make a constructor raise anything
        others = f"; {line}" if (line := other_plugins(card)) else ""
        cause = f"{type(error).__name__}: {one_line(error)[:300]}"
        raise UserError(f"{folder} does not fit together: {cause}{others}") from error
    if others := other_plugins(card):
        log.warning("%s: %s", folder, others)
    return trained


def _build(folder: Path, card: Mapping[str, Any], state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Trained:
    """Build the plugins of the card and load their states."""
    entries = {kind: card[kind] for kind in ("task", "preprocessing", "model", "cell", "kernel")}
    nodes = {kind: entry and {**entry["parameters"], "name": entry["name"]} for kind, entry in entries.items()}
    task = build_task(nodes["task"])
    task.load_state_dict(card["task_state"])
    check_names(label_names(task) or (), "labels")
    preprocessor = build_preprocessor(nodes["preprocessing"])
    if preprocessor is not None:
        preprocessor.load_state_dict(dict(state))
    symbols = None if preprocessor is None else preprocessor.symbols
    inputs = InputSpec(card["inputs"]["kind"], card["inputs"]["size"], symbols)
    with allocation_limit(count_elements(weights), f"{folder}: {run_folder.MODEL_CARD}"):
        model = build_model(nodes, task, inputs)
    model.load_state_dict(weights)
    return Trained(folder, task, preprocessor, model, nodes)


def _find_nan(model: Model) -> str | None:
    """Return the name of a tensor of the model that has NaN in it."""
    floats = ((name, value) for name, value in model.state_dict().items() if value.is_floating_point())
    return next((name for name, value in floats if bool(value.isnan().any())), None)


_SCORES = 4_000_000
"""Scores of tokens in a batch of texts, unless one text has more."""


@final
class Likelihood(NamedTuple):
    """Log-probability of a text in nats, and its numbers of tokens and of unknown tokens."""

    nats: float
    tokens: int
    unknown: int


@torch.inference_mode()
def log_probabilities(trained: Trained, texts: Sequence[str]) -> list[Likelihood]:
    r"""Compute the log-probability of each text under a language model, as a line of its own.

    .. math:: \ln p(u_1 \dots u_T) = \sum_t \ln p(u_t \mid u_{<t})

    The model starts without a state after the end of a line. The end of the text's own line is its last token, if line
    ends are tokens of the model.

    Args:
        trained: a language model: a task that predicts the next token.
        texts: any number of them.

    Raises:
        UserError: the model is no language model.
    """
    preprocessor = _language_preprocessor(trained, "evaluate --pairs")
    ends = preprocessor.encode(["\n"]).values
    end = "\n" if len(ends) and int(ends[-1]) != preprocessor.unknown_id else ""
    encoded, begin = preprocessor.encode([text + end for text in texts]), begin_id(preprocessor)
    found = [Likelihood(0.0, 0, 0)] * len(texts)
    longest = int(encoded.lengths.max()) if len(texts) else 0
    for rows in _batches(encoded.lengths, max(1, _SCORES // (max(1, longest) * trained.task.outputs))):
        ids, lengths = encoded.padded(rows)
        if not ids.shape[1]:
            continue
        inputs = torch.cat([ids.new_full((len(rows), 1), begin), ids[:, :-1]], dim=1)
        outputs, _ = trained.model(Batch(inputs, lengths, torch.empty(0)))
        logs = outputs.double().log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
        own = encoded.lengths[rows]  # lengths is None where all are equal
        valid = torch.arange(ids.shape[1]) < own.unsqueeze(1)
        unknown = (ids == preprocessor.unknown_id) & valid
        sums = zip(logs.where(valid, 0).sum(1).tolist(), own.tolist(), unknown.sum(1).tolist(), strict=True)
        for row, each in zip(rows.tolist(), sums, strict=True):
            found[row] = Likelihood(*each)
    return found


def _language_preprocessor(trained: Trained, command: str) -> Preprocessor:
    if not isinstance(trained.task, LanguageTask) or trained.preprocessor is None:
        raise UserError(f"{trained.folder}: its task predicts no next token; {command} needs a run of task=lm")
    return trained.preprocessor


_MAX_TOKENS = 4
"""Tokens of one character where tokens are bytes."""


@torch.inference_mode()
def generate(
    trained: Trained,
    prompt: str = "",
    length: int = 500,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    r"""Sample the continuation of a prompt, each token from :math:`\mathrm{softmax}(o / \text{temperature})`.

    Args:
        trained: a language model: a task that carries state and has an output at each step.
        prompt: text before the continuation; it is not returned.
        length: number of tokens.
        temperature: values below 1 sharpen the distribution; 0 always takes the likeliest token.
        top_k: sample among this number of the likeliest tokens; ``None`` among all.
        seed: of the random generator; ``None`` for a random one.

    Yields:
        The text piece by piece, as soon as a character is complete.

    Raises:
        UserError: the model is no language model, or a number is out of range.
    """
    preprocessor = _language_preprocessor(trained, "generate")
    _check(length, temperature, top_k)
    generator = torch.Generator()
    generator.manual_seed(generator.seed() if seed is None else seed)
    first = begin_id(preprocessor)
    ids = [first, *preprocessor.encode([prompt]).values.tolist()] if prompt else [first]
    text = _Decoder(preprocessor, ids[-1] if prompt else None)
    state: Any = None
    for _ in range(length):
        outputs, state = trained.model(Batch(torch.tensor([ids]), None, torch.empty(0)), state)
        logits = outputs[0, -1].double()
        logits[[0, preprocessor.unknown_id]] = -torch.inf  # padding and unknown are no text
        ids = [_sample(logits, temperature, top_k, generator)]
        if piece := text.push(ids[0]):
            yield piece
    yield text.flush()


def _check(length: int, temperature: float, top_k: int | None) -> None:
    if length < 1:
        raise UserError(f"length must be >= 1, got {length}")
    if temperature < 0:
        raise UserError(f"temperature must be >= 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise UserError(f"top-k must be >= 1, got {top_k}")


def _sample(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits = torch.where(logits < logits.topk(top_k).values[-1], -torch.inf, logits)
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))


class _Decoder:
    """Incremental decoder: a character of several tokens is returned when it is complete."""

    def __init__(self, preprocessor: Preprocessor, previous: int | None) -> None:
        self.preprocessor, self.previous = preprocessor, previous
        self.pending: list[int] = []

    def push(self, token: int) -> str:
        """Add a token; return the text that is now complete."""
        self.pending.append(token)
        piece = self._piece()
        if piece.endswith("\ufffd") and len(self.pending) < _MAX_TOKENS:
            return ""
        self.previous, self.pending = token, []
        return piece

    def flush(self) -> str:
        """Return what is left incomplete."""
        return self._piece() if self.pending else ""

    def _piece(self) -> str:
        """Decode after the previous token, as the preprocessor may put a space between them."""
        if self.previous is None:
            return self.preprocessor.decode(self.pending)
        start = self.preprocessor.decode([self.previous])
        return self.preprocessor.decode([self.previous, *self.pending])[len(start) :]
