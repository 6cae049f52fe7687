"""Task, preprocessor and model from the nodes of the config."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from seqlab.contracts import (
    Cell,
    CellFactory,
    HeadFactory,
    InputSpec,
    Kernel,
    Model,
    Preprocessor,
    StatefulTask,
    Task,
    UserError,
)
from seqlab.plugins.config import BUILT_IN_KERNELS, build, checked_arguments, option_error, plugin_class, plugin_classes
from seqlab.plugins.kernels import kernel_types
from seqlab.plugins.registry import plugins
from seqlab.plugins.signature import options

Node = Mapping[str, Any]

OF_TASK = "of_task"
"""The attribute that marks the task's head, a part of the model that is not reused for another task."""


def build_task(node: Node) -> Task:
    """Create the task; it reads no data yet."""
    task: Task = build("task", node)
    return task


def build_preprocessor(node: Node | None) -> Preprocessor | None:
    """Create the preprocessor, not fitted; ``None`` where there is none."""
    if node is None:
        return None
    preprocessor: Preprocessor = build("preprocessing", node)
    return preprocessor


def build_model(nodes: Mapping[str, Any], task: Task, inputs: InputSpec) -> Model:
    """Create the model from the nodes ``model``, ``cell`` and ``kernel``, for a task whose outputs are known."""
    target: type[Model]
    (target,) = plugin_classes("model", nodes["model"]["name"])
    supplied: dict[str, Any] = {
        "inputs": inputs,
        "outputs": task.outputs,
        "head": head_factory(task),
        "per_step": task.per_step,
    }
    if target.uses_cell:
        supplied |= {"cell": cell_factory(nodes["cell"], task), "kernel": build_kernel(nodes["kernel"], nodes["cell"])}
    model: Model = build("model", nodes["model"], **supplied)
    model.carries_state = isinstance(task, StatefulTask)
    return model


def head_factory(task: Task) -> HeadFactory:
    """Return the factory of the task's head, which sets :data:`OF_TASK`."""

    def make(features: int) -> nn.Module:
        made = task.head(features)
        setattr(made, OF_TASK, True)
        return made

    return make


def cell_factory(node: Node, task: Task) -> CellFactory:
    """Return the factory of the configured cell for a task; its options are checked here, once."""
    name = node["name"]
    target: Any
    (target,) = plugin_classes("cell", name)
    arguments = checked_arguments("cell", node)
    del arguments["name"]
    for option, attribute in target.from_task.items():
        if arguments[option] is None:
            arguments[option] = getattr(task, attribute, None)

    def make(input_size: int) -> Cell:
        try:
            cell: Cell = target(input_size=input_size, **arguments)
        except (ValueError, TypeError) as error:
            raise UserError(option_error("cell", name, error)) from error
        return cell

    return make


def build_kernel(node: Node, cell_node: Node) -> str | Kernel:
    """Create the configured kernel for the configured cell; built-in ones stay names."""
    arguments = checked_arguments("kernel", node)
    name = arguments.pop("name")
    if name in BUILT_IN_KERNELS:
        return str(name)
    (cell,) = plugin_classes("cell", cell_node["name"])
    available = kernel_types(cell)
    if name not in available:
        if (entry := f"{cell_node['name']}.{name}") in plugins("kernel"):
            plugin_class("kernel", entry)  # raises an error that says why it is broken
        have = ", ".join([*BUILT_IN_KERNELS, *available])
        raise UserError(f"kernel={name}: cell={cell_node['name']} has no such kernel; it has {have}")
    known = {option.name for option in options(available[name])}
    try:
        return available[name](**{key: value for key, value in arguments.items() if key in known})
    except ValueError as error:
        raise UserError(option_error("kernel", name, error)) from error
