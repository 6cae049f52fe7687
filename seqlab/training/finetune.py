"""Fine-tuning: a run that begins with what another one learned, and parts of a model that are not trained."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor

from seqlab.config.build import OF_TASK
from seqlab.contracts import Model, Task, UserError
from seqlab.errors import one_line
from seqlab.inference.loading import Trained, load
from seqlab.runs import run_folder
from seqlab.runs.card import read_card

log = logging.getLogger("seqlab")


@final
@dataclass(frozen=True)
class InitRecord:
    """What a run began with, as ``model.json`` and ``results.json`` record it.

    Attributes:
        run: the folder, as ``init_from`` named it.
        taken: names of the parameters and buffers that came from there.
        new: names of those that did not: the outputs are others, or that run has no such part.
    """

    run: str
    taken: list[str]
    new: list[str]


@final
class PretrainedInit:
    """The run that ``init_from`` names.

    Args:
        run: its folder, as the config names it.
        trained: what it learned.
        recorded: what an interrupted run, which goes on, had taken from it.
    """

    def __init__(self, run: str, trained: Trained, recorded: Mapping[str, Any] | None = None) -> None:
        self.run, self.trained, self.recorded = run, trained, recorded

    def give(self, model: Model, task: Task, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the weights into a model, by name; the task's part of it is left as it is where the outputs are others.

        Args:
            model: built and prepared.
            task: whose outputs are known.
            nodes: the config of the run that begins, for its ``model``, ``cell`` and ``task``.

        Returns:
            The :class:`Origin` as a plain ``dict``.

        Raises:
            UserError: the weights do not fit the model; the message names what differs.
        """
        if self.recorded is not None:  # the checkpoint brings the weights
            return dict(self.recorded)
        where = f"init_from={self.run}"
        self._check_plugins(where, nodes)
        weights = self.trained.model.state_dict()
        own = model.state_dict()
        head: set[str] = set()
        if not _same_outputs(self.trained.task, task):
            head = _of_task(model, [*own, *weights])
            if not head:
                raise UserError(
                    f"{where}: that run's labels are others, and model={nodes['model']['name']} has no head of its own "
                    "that could begin anew"
                )
            # So is a part that only another task has a use for, such as one that pools over time.
            head |= {name for name in own if _part(name) not in {_part(other) for other in weights}}
        given = {name: value for name, value in weights.items() if name not in head}
        self._load(where, model, given, {name: value for name, value in own.items() if name not in head}, nodes)
        origin = InitRecord(self.run, list(given), [name for name in own if name in head])
        log.info(_told(where, origin))
        return asdict(origin)

    def _check_plugins(self, where: str, nodes: Mapping[str, Any]) -> None:
        for kind in ("model", "cell") if self.trained.model.uses_cell else ("model",):
            there, here = self.trained.nodes[kind]["name"], nodes[kind]["name"]
            if there != here:
                raise UserError(f"{where}: that run has {kind}={there}, and this one {kind}={here}; they must agree")
        if not self.trained.model.state_dict():
            raise UserError(f"{where}: model={nodes['model']['name']} has no weights to begin with")

    def _load(
        self,
        where: str,
        model: Model,
        given: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        nodes: Mapping[str, Any],
    ) -> None:
        names = [f"{name} is only {'there' if name in given else 'here'}" for name in sorted(given.keys() ^ own.keys())]
        shapes = [
            f"{name} is {list(given[name].shape)} there and {list(own[name].shape)} here"
            for name in given
            if name in own and given[name].shape != own[name].shape
        ]
        error: Exception | None = None
        if not names:
            try:  # shapes that differ are no fault yet: a model may take its size from what it loads
                model.load_state_dict(dict(given), strict=False)
                return
            except (RuntimeError, ValueError) as found:
                error = found
        faults = names + shapes or [one_line(error)]
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        options = _differing(self.trained.nodes, nodes)
        way = f"set {', '.join(options)}, as that run has it" if options else "the two models must be alike"
        raise UserError(f"{where}: its weights do not fit: {'; '.join(faults[:3])}{more}; {way}") from error


def load_init(plain: dict[str, Any], folder: Path, resume_from: Path | None) -> PretrainedInit | None:
    """Load what ``init_from`` names, and set ``preprocessing`` to that run's; ``None`` where nothing is named.

    A run that goes on reads its own folder instead, so that it needs the other one no more.

    Args:
        plain: the run's config.
        folder: the run folder.
        resume_from: the checkpoint that the run goes on from.

    Raises:
        UserError: ``init_from`` or ``freeze`` is not what it must be, or the run there reads other inputs.
    """
    _check_freeze(plain.get("freeze"))
    run = plain.get("init_from")
    own = _own_card(folder, resume_from)
    if own is not None and own.get("freeze", []) != list(plain.get("freeze") or []):
        raise UserError(f"freeze is {plain.get('freeze')}, but the run that goes on has freeze={own.get('freeze')}")
    recorded = own.get("init_from") if own is not None else None
    if run is None:
        if recorded is not None:
            raise UserError(f"the run that goes on began with init_from={recorded['run']}; say so again")
        return None
    if not isinstance(run, str):
        raise UserError(f"init_from is {run}; it must be the folder of a run, or null")
    if own is not None and recorded is None:
        raise UserError(f"init_from={run}: the run that goes on began without it; leave it out")
    try:
        trained = load(run if recorded is None else folder)
    except UserError as error:
        raise UserError(f"init_from={run}: {error}") from error
    there, here = trained.nodes["preprocessing"], plain["preprocessing"]
    if (there is None) != (here is None):
        kinds = "tensors" if there is None else "texts", "tensors" if here is None else "texts"
        raise UserError(f"init_from={run}: that run reads {kinds[0]}, and task={plain['task']['name']} has {kinds[1]}")
    if there != here:
        log.info(f"init_from={run}: preprocessing={there['name']}, as that run has it, with its vocabulary")
        plain["preprocessing"] = there
    return PretrainedInit(run, trained, recorded)


def initialise_weights(
    start: PretrainedInit | None, model: Model, task: Task, plain: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Give a prepared model the weights that it begins with, and freeze its parts.

    Returns:
        The :class:`Origin` as a plain ``dict``; ``None`` for a run that begins from nothing.

    Raises:
        UserError: the weights do not fit, or a part cannot be frozen.
    """
    origin = None if start is None else start.give(model, task, plain)
    freeze(model, plain.get("freeze"))
    return origin


def _own_card(folder: Path, resume_from: Path | None) -> dict[str, Any] | None:
    """Read ``model.json`` of a run that goes on from its own folder."""
    if resume_from is None or resume_from.resolve() != (folder / run_folder.RESUME).resolve():
        return None
    return read_card(folder)


def _same_outputs(there: Task, here: Task) -> bool:
    """Say whether the outputs of two tasks mean the same."""
    names = there.label_names(), here.label_names()
    if names[0] is None or names[1] is None:
        return names == (None, None) and type(there) is type(here) and there.outputs == here.outputs
    return list(names[0]) == list(names[1])


def _of_task(model: Model, names: Sequence[str]) -> set[str]:
    """Find which of these names belong to the part of the model that its task made."""
    heads = [f"{name}." for name, module in model.named_modules() if getattr(module, OF_TASK, False)]
    return {name for name in names if name.startswith(tuple(heads))}


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """List the options of model and cell that another run has otherwise."""
    found = []
    for kind in ("cell", "model"):
        theirs, ours = there[kind], here[kind]
        found += [f"{kind}.{key}={_typed(theirs[key])}" for key in theirs if key in ours and theirs[key] != ours[key]]
    return found


def _typed(value: Any) -> str:
    """Show a value as it is typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _told(where: str, origin: InitRecord) -> str:
    line = f"{where}: {_parts(origin.taken)} taken"
    return f"{line}; {_parts(origin.new)} new, as the outputs are others" if origin.new else line


def _part(name: str) -> str:
    return name.partition(".")[0]


def _parts(names: Sequence[str]) -> str:
    parts = list(dict.fromkeys(map(_part, names)))
    return f"{', '.join(parts)} {'is' if len(parts) == 1 else 'are'}"


def _check_freeze(freeze: Any) -> None:
    if freeze is None or (isinstance(freeze, list) and all(isinstance(part, str) and part for part in freeze)):
        return
    example = f", such as freeze=[{freeze}]" if isinstance(freeze, str) and freeze else ""
    raise UserError(f"freeze is {freeze!r}; it must be a list of parts of the model{example}")


def freeze(model: Model, parts: Sequence[str] | None) -> None:
    """Take parts of a model out of training: no gradient, no weight decay; their dropout goes on.

    Args:
        model: whose parameters are meant.
        parts: names of modules or parameters, such as ``encoder`` or ``recurrent.layers.0``, with all below them.

    Raises:
        UserError: a part has no parameters, or nothing is left to train.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    for part in parts or ():
        found = [parameter for name, parameter in named.items() if f"{name}.".startswith(f"{part}.")]
        if not found:
            raise UserError(f"freeze: the model has no parameters in {part}; it has some in {_near(part, named)}")
        for parameter in found:
            parameter.requires_grad_(False)
    parameters = list(model.parameters())
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    if parts and frozen == total:
        raise UserError(
            f"freeze={list(parts)}: nothing is left to train; the model has parameters in {_near('', named)}"
        )
    if parts:
        log.info(f"freeze=[{','.join(parts)}]: {frozen:,} of {total:,} parameters are not trained")


def _near(part: str, names: Iterable[str]) -> str:
    """List what there is where a part's name leaves what there is."""
    known = ""
    for step in part.split("."):
        if not any(name.startswith(f"{known}{step}.") for name in names):
            break
        known += f"{step}."
    beside = [known + name.removeprefix(known).partition(".")[0] for name in names if name.startswith(known)]
    return ", ".join(dict.fromkeys(beside)) or "no part"
