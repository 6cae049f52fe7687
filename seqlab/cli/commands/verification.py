"""``verify RUN_DIR``: is a run folder whole, and does its test metric come out again?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from seqlab.cli.parser import Parser
from seqlab.errors import UserError, one_line

if TYPE_CHECKING:
    from seqlab.runs.results import Result
    from seqlab.training.verification import Finding


COLOURS = {"ok": "green", "differs": "yellow", "wrong": "red"}


def verify(arguments: list[str]) -> int:
    """Show what was found; the exit code is 1 if something is wrong."""
    parser = Parser(
        "verify",
        description="Hold a run folder against what it says of itself: the hashes of its files, the shapes of its "
        "weights, the versions of its plugins, and the recorded test metrics, which are computed once more.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder that a run wrote")
    parser.add_argument("--no-score", action="store_true", help="leave out the test metrics, which need the data")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    from seqlab.training.verification import verify_run

    findings = verify_run(asked.run_dir, scores=not asked.no_score)
    if asked.json:
        print(json.dumps({"run": str(asked.run_dir), "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        show(findings, str(asked.run_dir))
    return int(any(finding.state == "wrong" for finding in findings))


def show(findings: "list[Finding]", title: str) -> None:
    """Print a table of findings."""
    table = Table("what", "state", "found", title=title, title_justify="left")
    for finding in findings:
        table.add_row(finding.what, f"[{COLOURS[finding.state]}]{finding.state}[/]", finding.said)
    Console(highlight=False).print(table)


def rerun(arguments: list[str]) -> int:
    """Train, and compare; the exit code is 1 if the test metrics are others."""
    parser = Parser(
        "rerun",
        description="Train once more with the config that a run's folder holds, and compare: test metrics and weights.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder that a run wrote")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new run's folder (RUN_DIR_again)")
    asked = parser.parse_args(arguments)
    from seqlab.runs.results import read_results
    from seqlab.runs.run_folder import MODEL, hashes
    from seqlab.training.verification import Finding, compare_metrics, data_finding, differing_packages

    record = read_results(asked.run_dir)
    folder = asked.out or asked.run_dir.with_name(f"{asked.run_dir.resolve().name}_again")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another folder by --out")
    others = differing_packages(record)
    try:
        result = _trained(record, asked.run_dir, folder)
    except (KeyError, TypeError, AttributeError) as error:
        said = f"{type(error).__name__}: {one_line(error)[:300]}"
        raise UserError(f"{asked.run_dir}: its config is not one of this version: {said}") from error
    same = (record.get("files") or {}).get(MODEL) == hashes(folder)[MODEL]
    findings = [
        Finding("versions", "differs" if others else "ok", "; ".join(others) or "packages are those of the run"),
        Finding("weights", "ok" if same else "differs", "the same bytes" if same else "not the same bytes"),
        *data_finding(record, result.record["fingerprint"]),
        compare_metrics("test metrics", record["metrics"].get("test", {}), dict(result.metrics)),
    ]
    show(findings, f"{asked.run_dir} once more, in {folder}")
    return int(any(finding.state == "wrong" for finding in findings))


def _trained(record: dict[str, Any], run_dir: Path, folder: Path) -> "Result":
    """Train as the run was trained: where it went on with another config, in as many parts, each with its own."""
    from seqlab.training.checkpoint import ReachedError
    from seqlab.training.resume import config_history
    from seqlab.training.run import run

    try:
        parts = config_history(record)
    except UserError as error:
        raise UserError(f"{run_dir}: {error}") from error
    for place, (config, until) in enumerate(parts):
        going_on = {"ckpt_path": "last" if place else None, "logger": {"name": "csv"}}  # nobody else is told
        try:
            result = run({**config, **going_on}, folder, f"seqlab rerun {run_dir}", until=until)
        except ReachedError:
            continue
    return result


def replay(arguments: list[str]) -> int:
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

    from seqlab.inference.loading import load
    from seqlab.recurrence import fill_state
    from seqlab.training.nonfinite import SavedStep, outputs_of

    kept = SavedStep(folder)
    trained = load(folder.resolve().parent, kept.weights)
    task, model = trained.task, trained.model.train()
    state = None
    if kept.state:
        with torch.no_grad():
            state = fill_state(model(kept.batch, None)[1], kept.state)
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
