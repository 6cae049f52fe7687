"""What may help a run that ends no better than its baseline, as commands."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from seqlab.contracts import GeneratedTask, Remedy, UserError
from seqlab.io.formatting import shell_command
from seqlab.plugins.config import plugin_class, plugin_classes
from seqlab.plugins.signature import format_value
from seqlab.runs.scores import deciding_verdict
from seqlab.sweeps.overrides import override_key
from seqlab.training.curriculum import check_comparisons
from seqlab.training.session import prepare_data

_PLACES = ("hydra.run.dir", "ckpt_path")


def cell_remedy(cell: Mapping[str, Any], cause: Literal["gradient", "saturation"], distance: int) -> Remedy | None:
    """Return the remedy of a cell (:meth:`seqlab.Cell.remedy`), given its config node."""
    target: Any
    (target,) = plugin_classes("cell", str(cell["name"]))
    options = {str(key): value for key, value in cell.items() if key != "name"}
    remedy: Remedy | None = target.remedy(cause, distance, options)
    return remedy


def advise(record: Mapping[str, Any], arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return texts and commands of what may help; empty if the run is better than its baseline on validation.

    In this order: the cell's own remedy, a curriculum if the task generates sequences, and more steps.

    Args:
        record: ``results.json``.
        arguments: of the command line that trained the run.
    """
    if deciding_verdict(record) != "at chance" or not record["cost"]["steps"]:
        return []
    found = [change for change in (_remedy(record), _curriculum(record), _longer(record)) if change]
    return [(text, _command(arguments, changes)) for text, changes in found]


def _remedy(record: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    config, length = record["config"], (record["data"]["train"].get("length") or {}).get("longest")
    model: Any = plugin_class("model", config["model"]["name"])
    if not (model.uses_cell and length and (remedy := cell_remedy(config["cell"], "gradient", length))):
        return None
    return remedy.text, [f"cell.{option}={format_value(value)}" for option, value in remedy.options.items()]


def _curriculum(record: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """Propose lengths that grow from half the first ceiling, in as many steps, at a fifth of the learning rate.

    Each length starts from weights that solve a shorter one, which the rate of a run from new weights can undo: an RNN
    with 128 units solves ``first`` over 40 steps in three seeds of three at 0.001, in none at 0.005.
    """
    config = record["config"]
    if config["task"].get("lengths") != "fixed":
        return None
    try:
        check_comparisons(config["optimizer"])
        task, _ = prepare_data({**config, "task": {**config["task"], "lengths": "curriculum"}})
    except UserError:  # such as sequences that repeat: a curriculum draws new ones
        return None
    if not isinstance(task, GeneratedTask):
        return None
    changes = ["task.lengths=curriculum"]
    if (start := max(task.min_length, task.start_length // 2)) < task.start_length:
        changes.append(f"task.start_length={start}")
    if epochs := config["trainer"]["max_epochs"]:
        batches = -(-record["data"]["train"]["examples"] // config["data"]["batch_size"])
        changes.append(f"trainer.max_epochs={-(-epochs * batches // task.check_every)}")
    changes += [f"optimizer.lr={config['optimizer']['lr'] / 5:g}", "trainer.stop_when_solved=1"]
    return "a curriculum: lengths that grow as the model learns, with smaller steps", changes


def _longer(record: Mapping[str, Any]) -> tuple[str, list[str]]:
    trainer = record["config"]["trainer"]
    limits = ("max_minutes", "max_epochs", "max_steps")
    changes = [f"trainer.{key}={4 * trainer[key]}" for key in limits if (trainer.get(key) or -1) > 0]
    if trainer["early_stopping"] is not None:
        changes.append("trainer.early_stopping=null")
    return "four times the training", changes


def _command(arguments: Sequence[str], changes: Sequence[str]) -> str:
    replaced = {*_PLACES, *map(override_key, changes)}
    return shell_command(*(each for each in arguments if override_key(each) not in replaced), *changes)
