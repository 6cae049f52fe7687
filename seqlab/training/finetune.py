"""Fine-tuning: initial weights from another run, and frozen parts of a model."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor

from seqlab.config.build import OF_TASK
from seqlab.contracts import Model, Task, UserError
from seqlab.contracts.task import label_names
from seqlab.errors import one_line
from seqlab.inference import Trained, load
from seqlab.runs import run_folder
from seqlab.runs.card import read_card

log = logging.getLogger("seqlab")


@final
class PretrainedInit:
    """Run that ``init_from`` names; ``recorded`` is what an interrupted run, which resumes, took from it."""

    def __init__(self, run: str, trained: Trained, recorded: Mapping[str, Any] | None = None) -> None:
        self.run, self.trained, self.recorded = run, trained, recorded

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """Config node of that run's preprocessing, whose vocabulary the weights belong to."""
        node: dict[str, Any] | None = self.trained.nodes["preprocessing"]
        return node

    def load_into(self, model: Model, task: Task, config: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the weights into a model by name; the task's head keeps its own where the outputs differ.

        Returns:
            The record for ``model.json`` and ``results.json``: ``run``, and the names of the parameters and buffers
            that were ``taken`` from it or are ``new``.
        """
        if self.recorded is not None:  # the checkpoint brings the weights
            return dict(self.recorded)
        where = f"init_from={self.run}"
        self._check_plugins(where, config)
        weights = self.trained.model.state_dict()
        own = model.state_dict()
        head: set[str] = set()
        if not _same_outputs(self.trained.task, task):
            head = _made_by_task(model, [*own, *weights])
            if not head:
                name = config["model"]["name"]
                raise UserError(f"{where}: that run's labels differ, and model={name} has no separate head to replace")
            # New, too, is a part that only this task uses, such as one that pools over time.
            head |= {name for name in own if _part(name) not in {_part(other) for other in weights}}
        taken = {name: value for name, value in weights.items() if name not in head}
        self._copy(where, model, taken, {name: value for name, value in own.items() if name not in head}, config)
        new = [name for name in own if name in head]
        replaced = f"; new, as the outputs differ: {_parts(new)}" if new else ""
        log.info(f"{where}: weights taken: {_parts(taken)}{replaced}")
        return {"run": self.run, "taken": list(taken), "new": new}

    def _check_plugins(self, where: str, config: Mapping[str, Any]) -> None:
        for kind in ("model", "cell") if self.trained.model.uses_cell else ("model",):
            there, here = self.trained.nodes[kind]["name"], config[kind]["name"]
            if there != here:
                raise UserError(f"{where}: that run has {kind}={there}, and this one {kind}={here}; they must agree")
        if not self.trained.model.state_dict():
            raise UserError(f"{where}: model={config['model']['name']} has no weights to start from")

    def _copy(
        self,
        where: str,
        model: Model,
        taken: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        config: Mapping[str, Any],
    ) -> None:
        names = [f"{name} is only {'there' if name in taken else 'here'}" for name in sorted(taken.keys() ^ own.keys())]
        shapes = [
            f"{name} is {list(taken[name].shape)} there and {list(own[name].shape)} here"
            for name in taken
            if name in own and taken[name].shape != own[name].shape
        ]
        error: Exception | None = None
        if not names:
            try:  # other shapes may be right: a model may take its size from what it loads
                model.load_state_dict(dict(taken), strict=False)
                return
            except (RuntimeError, ValueError) as found:
                error = found
        faults = names + shapes or [one_line(error)]
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        options = _differing_options(self.trained.nodes, config)
        hint = f"set {', '.join(options)}, as that run has it" if options else "the two models must be alike"
        raise UserError(f"{where}: its weights do not fit: {'; '.join(faults[:3])}{more}; {hint}") from error


def load_init(config: Mapping[str, Any], folder: Path, resume_from: Path | None) -> PretrainedInit | None:
    """Load the run that ``init_from`` names; ``None`` where it names none.

    A run that resumes reads its own folder instead, so that the other run may be deleted.
    """
    frozen = config.get("freeze")
    run = config.get("init_from")
    own = _own_card(folder, resume_from)
    if own is not None and own.get("freeze", []) != list(frozen or []):
        raise UserError(f"freeze is {frozen}, but the resumed run has freeze={own.get('freeze')}")
    recorded = own.get("init_from") if own is not None else None
    if run is None:
        if recorded is not None:
            raise UserError(f"the resumed run has init_from={recorded['run']}; set it again")
        return None
    if own is not None and recorded is None:
        raise UserError(f"init_from={run}: the resumed run has no init_from; leave it out")
    try:
        pretrained = PretrainedInit(run, load(run if recorded is None else folder), recorded)
    except UserError as error:
        raise UserError(f"init_from={run}: {error}") from error
    there, here = pretrained.preprocessing, config["preprocessing"]
    if (there is None) != (here is None):
        kinds = "tensors" if there is None else "texts", "tensors" if here is None else "texts"
        raise UserError(f"init_from={run}: that run reads {kinds[0]}, and task={config['task']['name']} has {kinds[1]}")
    if there is not None and there != here:
        log.info(f"init_from={run}: preprocessing={there['name']} and its vocabulary are those of that run")
    return pretrained


def _own_card(folder: Path, resume_from: Path | None) -> dict[str, Any] | None:
    """Read ``model.json`` of a run that resumes from its own folder."""
    if resume_from is None or resume_from.resolve() != (folder / run_folder.RESUME).resolve():
        return None
    return read_card(folder)


def _same_outputs(there: Task, here: Task) -> bool:
    """Whether the outputs of two tasks have the same meaning."""
    names = label_names(there), label_names(here)
    if names[0] is None or names[1] is None:
        return names == (None, None) and type(there) is type(here) and there.outputs == here.outputs
    return list(names[0]) == list(names[1])


def _made_by_task(model: Model, names: Sequence[str]) -> set[str]:
    """Return the names that belong to the parts of the model that its task made."""
    heads = tuple(f"{name}." for name, module in model.named_modules() if getattr(module, OF_TASK, False))
    return {name for name in names if name.startswith(heads)}


def _differing_options(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the options of cell and model that another run has and that differ here, as overrides."""
    return [
        f"{kind}.{key}={value if isinstance(value, str) else json.dumps(value)}"
        for kind in ("cell", "model")
        for key, value in there[kind].items()
        if key in here[kind] and value != here[kind][key]
    ]


def _part(name: str) -> str:
    return name.partition(".")[0]


def _parts(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(map(_part, names)))


def freeze(model: Model, parts: Sequence[str] | None) -> None:
    """Exclude parts of a model from training: no gradient, no weight decay; their dropout stays active.

    Args:
        model: whose parameters are meant.
        parts: names of modules or parameters, such as ``encoder`` or ``recurrent.layers.0``, with all below them.
    """
    if not parts:
        return
    named = dict(model.named_parameters(remove_duplicate=False))
    for part in parts:
        found = [parameter for name, parameter in named.items() if f"{name}.".startswith(f"{part}.")]
        if not found:
            raise UserError(f"freeze: the model has no parameters in {part}; it has some in {_siblings(part, named)}")
        for parameter in found:
            parameter.requires_grad_(False)
    parameters = list(model.parameters())
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    if frozen == total:
        where = _siblings("", named)
        raise UserError(f"freeze={list(parts)}: nothing is left to train; the model has parameters in {where}")
    log.info(f"freeze=[{','.join(parts)}]: {frozen:,} of {total:,} parameters are not trained")


def _siblings(part: str, names: Iterable[str]) -> str:
    """List the parts that exist at the first level where ``part`` matches none."""
    known = ""
    for step in part.split("."):
        if not any(name.startswith(f"{known}{step}.") for name in names):
            break
        known += f"{step}."
    beside = [known + name.removeprefix(known).partition(".")[0] for name in names if name.startswith(known)]
    return ", ".join(dict.fromkeys(beside)) or "no part"
