"""``replay RUN_DIR/nonfinite``: compute a step once more whose loss or gradient was no finite number."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from seqlab.discovery.registry import one_line
from seqlab.errors import UserError
from seqlab.verbs.parser import Parser


def main(arguments: list[str]) -> int:
    """Show each part of the model: its largest output, what is not finite, and its gradient's norm."""
    parser = Parser(
        "replay",
        description="Compute a step once more whose loss or gradient was no finite number: the largest output of each "
        "part of the model, the first one that is not finite, and the norm of each parameter's gradient.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="nonfinite in the run's folder, or the run's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    from seqlab.training.nonfinite import FOLDER, PAGE

    folder = asked.folder
    if not (folder / PAGE).is_file() and (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    if not (folder / PAGE).is_file():
        raise UserError(f"{asked.folder} keeps no step: it has no {PAGE}; a run writes one where its loss is no number")
    try:
        found = _computed(folder)
    except UserError:
        raise
    except Exception as error:  # what a model makes of a stranger's tensors is anything
        raise UserError(f"{folder} does not fit its run: {type(error).__name__}: {one_line(error)[:300]}") from error
    if asked.json:
        print(json.dumps({name: _plain(value) for name, value in found.items()}, indent=2))
    else:
        _show(found, str(folder))
    return 0


def _computed(folder: Path) -> dict[str, Any]:
    import torch

    from seqlab.recurrence import refill
    from seqlab.training.nonfinite import Kept, outputs_of
    from seqlab.training.trained import load

    kept = Kept(folder)
    trained = load(folder.resolve().parent, kept.weights)
    task, model = trained.task, trained.model.train()
    state = None
    if kept.state:
        with torch.no_grad():
            state = refill(model(kept.batch, None)[1], kept.state)
    torch.set_rng_state(kept.rng)
    with outputs_of(model) as outputs:
        loss = task.loss(model(kept.batch, state)[0], kept.batch)
    torch.autograd.backward(loss)
    gradients = {
        name: float(parameter.grad.norm()) for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    return {
        **kept.page,
        "loss": float(loss.detach()),
        "first": next((name for name, (_, bad) in outputs.items() if bad), None),
        "outputs": {name: {"largest": largest, "not_finite": bad} for name, (largest, bad) in outputs.items()},
        "largest_weights": {name: float(value.detach().abs().max()) for name, value in model.named_parameters()},
        "gradients": gradients,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value


def _show(found: dict[str, Any], title: str) -> None:
    console = Console(highlight=False)
    console.print(f"step {found['step']:,} of epoch {found['epoch'] + 1}: the {found['what']} was {found['value']}")
    console.print(f"computed once more, the loss is {found['loss']:.6g}")
    first = found["first"]
    console.print(f"the first part with outputs that are not finite: {first}" if first else "all outputs are finite")
    table = Table("part of the model, as they end", title=title, title_justify="left")
    table.add_column("largest output", justify="right")
    table.add_column("not finite", justify="right")
    for name, row in found["outputs"].items():
        table.add_row(name, f"{row['largest']:.3g}", f"{row['not_finite']:.1%}" if row["not_finite"] else "")
    console.print(table)
    table = Table("parameter")
    table.add_column("largest weight", justify="right")
    table.add_column("norm of its gradient", justify="right")
    for name, largest in found["largest_weights"].items():
        norm = found["gradients"].get(name)
        table.add_row(name, f"{largest:.3g}", "none" if norm is None else f"{norm:.3g}")
    console.print(table)
