"""``rerun RUN_DIR``: train once more from a run's folder, and say whether the numbers come out again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.discovery.registry import one_line
from seqlab.errors import UserError
from seqlab.verbs.parser import Parser

if TYPE_CHECKING:
    from seqlab.training.results import Result


def main(arguments: list[str]) -> int:
    """Train, and compare; the exit code is 1 if the test metrics are others."""
    parser = Parser(
        "rerun",
        description="Train once more with the config that a run's folder holds, and compare: test metrics and weights.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder that a run wrote")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new run's folder (RUN_DIR_again)")
    asked = parser.parse_args(arguments)
    from seqlab.training.again import Finding, compared, data_finding, differing, results
    from seqlab.training.runfolder import MODEL, hashes
    from seqlab.verbs.verify import show

    record = results(asked.run_dir)
    folder = asked.out or asked.run_dir.with_name(f"{asked.run_dir.resolve().name}_again")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another folder by --out")
    others = differing(record)
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
        compared("test metrics", record["metrics"].get("test", {}), dict(result.metrics)),
    ]
    show(findings, f"{asked.run_dir} once more, in {folder}")
    return int(any(finding.state == "wrong" for finding in findings))


def _trained(record: dict[str, Any], run_dir: Path, folder: Path) -> "Result":
    """Train as the run was trained: where it went on with another config, in as many parts, each with its own."""
    from seqlab.training.checkpoint import ReachedError
    from seqlab.training.resume import replay
    from seqlab.training.run import run

    try:
        parts = replay(record)
    except UserError as error:
        raise UserError(f"{run_dir}: {error}") from error
    for place, (config, until) in enumerate(parts):
        going_on = {"ckpt_path": "last" if place else None, "logger": {"name": "csv"}}  # nobody else is told
        try:
            result = run({**config, **going_on}, folder, f"seqlab rerun {run_dir}", until=until)
        except ReachedError:
            continue
    return result
