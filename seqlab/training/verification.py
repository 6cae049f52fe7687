"""Verification of a finished run: hashes, shapes, versions, data and test metrics."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import pytorch_lightning as pl
import torch

from seqlab.contracts import Model, UserError
from seqlab.contracts.task import label_names
from seqlab.data.fingerprint import differences, fingerprint
from seqlab.errors import one_line
from seqlab.inference.loading import Trained, load
from seqlab.plugins import find
from seqlab.recurrence.recurrent import Recurrent
from seqlab.runs import run_folder
from seqlab.runs.card import read_card
from seqlab.runs.environment import versions
from seqlab.runs.results import read_results
from seqlab.training.finetune import PretrainedInit
from seqlab.training.module import SequenceModule
from seqlab.training.process_state import silence_lightning
from seqlab.training.session import prepare_data

CLOSE = 1e-4
"""Relative difference of a metric that is accepted, as between machines or numbers of threads."""
MULTIPLE = 16
"""Multiple of a metric's rounding error that is accepted; see :data:`seqlab.export.compare.MULTIPLE`."""
_SMALLEST = 2.0**-23
"""Rounding error of float32 outputs of size 1, which limits metrics near 0, such as the loss of a solved task."""

_KINDS = ("task", "preprocessing", "model", "cell")


@final
@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        what: was checked, such as ``shapes``.
        state: ``ok``; ``differs``, which the user should know; ``wrong``, so that the run is not what it claims.
        message: one line.
    """

    what: str
    state: Literal["ok", "differs", "wrong"]
    message: str


def verify_run(folder: Path, *, scores: bool = True) -> list[Finding]:
    """Check a run folder against its own records.

    Args:
        folder: of a finished run.
        scores: whether to score the test split again, which needs the data.

    Raises:
        UserError: it is no finished run, or it cannot be loaded.
    """
    record = read_results(folder)
    trained = load(folder)  # before hashing, as it bounds the size of each file
    findings = [_files(folder, record.get("files"))]
    count = sum(value.numel() for value in trained.model.state_dict().values())
    findings.append(Finding("shapes", "ok", f"{count:,} numbers fit the model of {run_folder.MODEL_CARD}"))
    findings.append(_versions(read_card(folder), record))
    if scores:
        metrics, data, same = _scored(trained, record["config"])
        findings += data_finding(record, data)
        if not same and record.get("fingerprint") is None:
            findings.append(Finding("data", "differs", "labels or vocabulary differ from those of training"))
        if metrics is None:
            findings.append(Finding("test metrics", "wrong", "not computed: the labels or their order differ"))
        else:
            then = record["metrics"].get("test", {})
            finding = compare_metrics("test metrics", then, metrics)
            if finding.state == "wrong":
                finding = compare_metrics("test metrics", then, metrics, _rounding(trained, record["config"], metrics))
            findings.append(finding)
    return findings


def data_finding(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[Finding]:
    """Compare the data with those that a run recorded; return nothing where it recorded none."""
    then = record.get("fingerprint")
    if then is None:
        return []
    try:
        found = differences(then, now)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{run_folder.RESULTS} has a fingerprint that cannot be read: {type(error).__name__}"
        ) from error
    if found:
        return [Finding("data", "differs", f"differ from those of training: {'; '.join(found)}")]
    return [Finding("data", "ok", "same splits, labels and vocabulary")]


def _rounding(trained: Trained, plain: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, float]:
    """Return each metric's distance from its value in float64 by the reference loop; empty where that fails."""
    if str(plain["trainer"]["precision"]) != "32-true":
        return {}
    try:
        wide = copy.deepcopy(trained.model).double()
        for part in wide.modules():
            if isinstance(part, Recurrent):
                part.kernel = "loop"
        exact, *_ = rescore(trained, plain, wide)
    except Exception:  # a model that fixes its dtype may raise anything
        return {}
    if exact is None:
        return {}
    return {name: abs(exact[name] - metrics[name]) for name in exact.keys() & metrics.keys()}


def _scored(trained: Trained, plain: Mapping[str, Any]) -> tuple[dict[str, float] | None, dict[str, Any], bool]:
    """Score the test split; raise ``UserError`` where the config is not usable."""
    try:
        return rescore(trained, plain)
    except (UserError, OSError):
        raise
    except Exception as error:  # values of a foreign file may make a trainer raise anything
        cause = f"{type(error).__name__}: {one_line(error)[:300]}"
        raise UserError(f"{trained.folder}: its test split cannot be scored: {cause}") from error


def _files(folder: Path, recorded: Mapping[str, str] | None) -> Finding:
    if not isinstance(recorded, dict):
        return Finding("hashes", "differs", f"{run_folder.RESULTS} has none to compare with")
    found = run_folder.hashes(folder)
    changed = [name for name in run_folder.HASHED if recorded.get(name) != found[name]]
    if changed:
        return Finding("hashes", "wrong", f"changed since the run: {', '.join(changed)}")
    return Finding("hashes", "ok", f"{len(found)} files are unchanged")


def _versions(card: Mapping[str, Any], record: Mapping[str, Any]) -> Finding:
    others = []
    for kind in _KINDS:
        if (entry := card.get(kind)) is None:
            continue
        plugin = find(kind, entry["name"])
        then, now = (entry.get("distribution"), entry.get("version")), (plugin.distribution, plugin.version)
        if then != now:
            others.append(f"{kind} {entry['name']} was of {then[0]} {then[1]}, is of {now[0]} {now[1]}")
    others += differing_packages(record)
    if others:
        return Finding("versions", "differs", "; ".join(others))
    return Finding("versions", "ok", "same plugins and packages")


def differing_packages(record: Mapping[str, Any]) -> list[str]:
    """Return the packages whose versions differ from those of a run."""
    now = versions()
    then = record.get("versions") or {}
    return [f"{name} was {then[name]}, is {now[name]}" for name in now if name in then and then[name] != now[name]]


def rescore(
    trained: Trained, plain: Mapping[str, Any], wide: Model | None = None
) -> tuple[dict[str, float] | None, dict[str, Any], bool]:
    """Score a trained model on its test split again.

    Args:
        trained: the run.
        plain: its config.
        wide: the model in float64, to be scored in place of the run's own.

    Returns:
        The metrics, the fingerprint of the data, and whether their labels and vocabulary are those of the run. The
        metrics are ``None`` where the labels or their order differ from the model's.

    Raises:
        UserError: the data cannot be read, or the folder's files contradict one another.
    """
    for kind in _KINDS:
        if plain.get(kind) != trained.nodes[kind]:
            raise UserError(f"{trained.folder}: {run_folder.RESULTS} and {run_folder.MODEL_CARD} differ in {kind}")
    silence_lightning()
    trained_state, labels = trained.task.state_dict(), label_names(trained.task)
    task, data = prepare_data(
        {**plain, "data": {**plain["data"], "workers": 0}}, PretrainedInit(str(trained.folder), trained)
    )
    found, same = fingerprint(data), task.state_dict() == trained_state
    if list(label_names(task) or ()) != list(labels or ()):
        return None, found, same
    if data.schedule is not None:
        lengths = read_results(trained.folder).get("lengths") or {}
        data.choose_test_length(int(lengths.get("test") or data.schedule.ceiling))
    module = SequenceModule(wide or trained.model, task, plain["optimizer"], data.statistics, data.extra_splits)
    precision = "64-true" if wide is not None else plain["trainer"]["precision"]
    trainer = _test_trainer(precision, plain["trainer"]["limit_test_batches"])
    trainer.test(module, datamodule=data, verbose=False)
    return module.test_results, found, same


def _test_trainer(precision: Any, limit_test_batches: float) -> pl.Trainer:
    return pl.Trainer(
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        devices=1,
        precision=precision,
        limit_test_batches=limit_test_batches,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )


def compare_metrics(
    what: str, then: Mapping[str, Any], now: Mapping[str, float], rounding: Mapping[str, float] | None = None
) -> Finding:
    """Compare metrics: equal to the last digit, equal within rounding, or not.

    Args:
        what: the name of the check.
        then: the recorded metrics.
        now: the computed ones.
        rounding: rounding error of each metric, where it was measured. :data:`MULTIPLE` times that is accepted, and
            as many times 2^-23, the resolution of float32 for metrics near 0.
    """
    if not then or set(then) != set(now):
        return Finding(what, "wrong", f"recorded {', '.join(then) or 'none'}; computed {', '.join(now)}")
    gaps = {name: _relative_difference(then[name], now[name]) for name in then}
    worst = max(gaps, key=lambda name: gaps[name])
    values = f"{worst} was {then[worst]}, is {now[worst]}"
    if gaps[worst] == 0:
        return Finding(what, "ok", f"all {len(then)} equal to the last digit")
    if all(gaps[name] <= CLOSE or _is_rounding(then[name], now[name], (rounding or {}).get(name)) for name in then):
        return Finding(what, "ok", f"all {len(then)} equal within rounding: {values}")
    return Finding(what, "wrong", values)


def _is_rounding(then: Any, now: float, error: float | None) -> bool:
    return then is not None and abs(then - now) <= MULTIPLE * max(error or 0.0, _SMALLEST)


def _relative_difference(then: Any, now: float) -> float:
    """Return the relative difference; a recorded ``None`` is a number that JSON cannot hold, NaN or infinite."""
    finite = abs(now) < float("inf")
    if then is None or not finite:
        return 0.0 if then is None and not finite else float("inf")
    return float(abs(then - now) / max(abs(then), abs(now), 1e-12))
