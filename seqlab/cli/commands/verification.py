"""``verify``, ``rerun`` and ``replay``: checks of a run folder and of its reproduction."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from seqlab.cli.output import Output, print_json
from seqlab.cli.parser import Parser, path
from seqlab.errors import UserError, reporting_foreign

if TYPE_CHECKING:
    from seqlab.runs.results import Result
    from seqlab.training.verification import Finding

_COLOURS = {"ok": "green", "differs": "yellow", "wrong": "red"}


def verify(arguments: list[str]) -> int:
    """Print the findings; the exit code is 1 if something is wrong."""
    parser = Parser(
        "verify",
        description="Check a run folder against its records: hashes of files, shapes of weights, versions of plugins, "
        "and the test metrics, which are computed again.",
    )
    parser.add_run_dir()
    parser.add_argument("--no-score", action="store_true", help="skip the test metrics, which need the data")
    parser.add_json()
    args = parser.parse(arguments)
    from seqlab.training.verification import verify_run

    findings = verify_run(args.run_dir, scores=not args.no_score)
    if args.json:
        print_json({"run": str(args.run_dir), "findings": [asdict(finding) for finding in findings]})
    else:
        _show_findings(findings, str(args.run_dir))
    return int(any(finding.state == "wrong" for finding in findings))


def _show_findings(findings: "Sequence[Finding]", title: str) -> None:
    rows = ((each.what, Text(each.state, _COLOURS[each.state]), each.message) for each in findings)
    Output().print_table(("check", "state", "result"), rows, title=title)


def rerun(arguments: list[str]) -> int:
    """Train and compare; the exit code is 1 if the test metrics differ."""
    parser = Parser(
        "rerun", description="Train again with the config of a run; compare the test metrics and the weights."
    )
    parser.add_run_dir()
    parser.add_argument("--out", type=path, metavar="DIR", help="folder of the new run (RUN_DIR_again)")
    args = parser.parse(arguments)
    from seqlab.runs.results import read_results
    from seqlab.runs.run_folder import MODEL, hashes
    from seqlab.training.verification import Finding, compare_metrics, data_finding, differing_packages

    record = read_results(args.run_dir)
    folder = args.out or args.run_dir.with_name(f"{args.run_dir.resolve().name}_again")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another folder with --out")
    others = differing_packages(record)
    with reporting_foreign(
        f"{args.run_dir}: its config does not fit this version", KeyError, TypeError, AttributeError
    ):
        result = _train(record, args.run_dir, folder)
    same = (record.get("files") or {}).get(MODEL) == hashes(folder)[MODEL]
    findings = [
        Finding("versions", "differs" if others else "ok", "; ".join(others) or "packages are those of the run"),
        Finding("weights", "ok" if same else "differs", "the same bytes" if same else "not the same bytes"),
        *data_finding(record, result.record["fingerprint"]),
        compare_metrics("test metrics", record["metrics"].get("test", {}), dict(result.metrics)),
    ]
    _show_findings(findings, f"{args.run_dir} trained again in {folder}")
    return int(any(finding.state == "wrong" for finding in findings))


def _train(record: dict[str, Any], run_dir: Path, folder: Path) -> "Result":
    """Train as the run was trained; a run that was resumed with another config has a part for each config."""
    from seqlab.training.checkpoint import StepReachedError
    from seqlab.training.resume import config_history
    from seqlab.training.run import run

    try:
        parts = config_history(record)
    except UserError as error:
        raise UserError(f"{run_dir}: {error}") from error
    for place, (config, until) in enumerate(parts):
        changes = {"ckpt_path": "last" if place else None, "logger": {"name": "csv"}}  # no remote logger
        try:
            result = run({**config, **changes}, folder, f"seqlab rerun {run_dir}", until=until)
        except StepReachedError:
            continue
    return result


def replay(arguments: list[str]) -> int:
    """Print the largest output of each module, the first that is not finite, and the norm of each gradient."""
    parser = Parser(
        "replay",
        description="Compute a step with a non-finite loss or gradient again: the largest output of each module, the "
        "first that is not finite, and the norm of the gradient of each parameter.",
    )
    parser.add_argument("folder", metavar="DIR", type=path, help="folder of a run, or nonfinite in it")
    parser.add_json()
    args = parser.parse(arguments)
    from seqlab.training.nonfinite import FOLDER, STEP

    folder = args.folder
    if not (folder / STEP).is_file() and (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    if not (folder / STEP).is_file():
        raise UserError(f"{args.folder} has no {STEP}; a run writes it at a step with a non-finite loss")
    with reporting_foreign(f"{folder} does not fit its run"):
        found = _computed(folder)
    if args.json:
        print_json(_as_text(found))
    else:
        _show_replay(found, str(folder))
    return 0


def _computed(folder: Path) -> dict[str, Any]:
    import torch

    from seqlab.inference import load
    from seqlab.recurrence import fill_state
    from seqlab.training.nonfinite import SavedStep, record_outputs

    saved = SavedStep(folder)
    trained = load(folder.resolve().parent, saved.weights)
    task, model = trained.task, trained.model.train()
    state = None
    if saved.state:
        with torch.no_grad():
            state = fill_state(model(saved.batch, None)[1], saved.state)
    torch.set_rng_state(saved.rng)
    with record_outputs(model) as outputs:
        loss = task.loss(model(saved.batch, state)[0], saved.batch)
    torch.autograd.backward(loss)
    parameters = dict(model.named_parameters())
    return {
        **saved.record,
        "loss": float(loss.detach()),
        "first": next((name for name, (_, bad) in outputs.items() if bad), None),
        "outputs": {name: {"largest": largest, "not_finite": bad} for name, (largest, bad) in outputs.items()},
        "largest_weights": {name: float(value.detach().abs().max()) for name, value in parameters.items()},
        "gradients": {name: float(value.grad.norm()) for name, value in parameters.items() if value.grad is not None},
    }


def _as_text(value: Any) -> Any:
    """Replace numbers that are not finite by their names."""
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items()}
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value


def _show_replay(found: dict[str, Any], title: str) -> None:
    out = Output()
    out.print_line(f"step {found['step']:,} of epoch {found['epoch'] + 1}: the {found['what']} was {found['value']}")
    out.print_line(f"computed again, the loss is {found['loss']:.6g}")
    first = found["first"]
    out.print_line(f"first module with outputs that are not finite: {first}" if first else "all outputs are finite")
    columns = ("module", "largest output", "not finite")
    rows = (
        (name, f"{row['largest']:.3g}", f"{row['not_finite']:.1%}" if row["not_finite"] else "")
        for name, row in found["outputs"].items()
    )
    out.print_table(columns, rows, right=columns[1:], title=title)
    columns = ("parameter", "largest weight", "norm of its gradient")
    norms = found["gradients"]
    rows = (
        (name, f"{largest:.3g}", f"{norms[name]:.3g}" if name in norms else "none")
        for name, largest in found["largest_weights"].items()
    )
    out.print_table(columns, rows, right=columns[1:])
