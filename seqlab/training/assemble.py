"""From the config's nodes to a task, a preprocessor and a model."""

from collections.abc import Mapping
from typing import Any

from seqlab.contracts import Cell, CellFactory, InputSpec, Kernel, Model, Preprocessor, Task, UserError
from seqlab.discovery.config import BUILT_IN_KERNELS, build, checked, explained, options, targets
from seqlab.discovery.kernels import kernel_types

Node = Mapping[str, Any]


def build_task(node: Node) -> Task:
    """Make the task; it reads no data yet."""
    task = build("task", node)
    if not isinstance(task, Task):
        raise UserError(f"task={node['name']} is broken: {type(task).__name__} is no seqlab.Task")
    return task


def build_preprocessor(node: Node | None) -> Preprocessor | None:
    """Make the preprocessor, not fitted; ``None`` where there is none."""
    if node is None:
        return None
    preprocessor = build("preprocessing", node)
    if not isinstance(preprocessor, Preprocessor):
        raise UserError(f"preprocessing={node['name']} is broken: no seqlab.Preprocessor")
    return preprocessor


def build_model(nodes: Mapping[str, Any], task: Task, inputs: InputSpec) -> Model:
    """Make the model of the nodes ``model``, ``cell`` and ``kernel`` for a task whose outputs are known."""
    (target,) = targets("model", nodes["model"]["name"])
    if not issubclass(target, Model):
        raise UserError(f"model={nodes['model']['name']} is broken: {target.__name__} is no seqlab.Model")
    supplied: dict[str, Any] = {
        "inputs": inputs,
        "outputs": task.outputs,
        "head": task.head,
        "per_step": task.per_step,
    }
    if target.uses_cell:
        supplied |= {"cell": cell_factory(nodes["cell"]), "kernel": build_kernel(nodes["kernel"], nodes["cell"])}
    model: Model = build("model", nodes["model"], **supplied)
    return model


def cell_factory(node: Node) -> CellFactory:
    """Make the factory of the configured cell; its options are checked here, once."""
    name = node["name"]
    (target,) = targets("cell", name)
    if not issubclass(target, Cell):
        raise UserError(f"cell={name} is broken: {target.__name__} is no seqlab.Cell")
    if not any(option.name == "input_size" and option.supplied for option in options(target)):
        raise UserError(f"cell={name} is broken: its constructor must take input_size, without a default")
    keywords = checked("cell", node)
    del keywords["name"]

    def make(input_size: int) -> Cell:
        try:
            cell: Cell = target(input_size=input_size, **keywords)
        except (ValueError, TypeError) as error:
            raise UserError(explained("cell", name, error)) from error
        return cell

    return make


def build_kernel(node: Node, cell_node: Node) -> str | Kernel:
    """Make the configured kernel for the configured cell; ``auto`` and ``loop`` stay names."""
    keywords = checked("kernel", node)
    name = keywords.pop("name")
    if name in BUILT_IN_KERNELS:
        return str(name)
    (cell,) = targets("cell", cell_node["name"])
    available = kernel_types(cell)
    if name not in available:
        have = ", ".join([*BUILT_IN_KERNELS, *available])
        raise UserError(f"kernel={name}: cell={cell_node['name']} has no such kernel; it has {have}")
    known = {option.name for option in options(available[name])}
    try:
        return available[name](**{key: value for key, value in keywords.items() if key in known})
    except ValueError as error:
        raise UserError(explained("kernel", name, error)) from error
