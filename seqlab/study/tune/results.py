"""Results of a search: its record, the config file of the winner, and the report page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # PyYAML, which OmegaConf brings, has no types

from seqlab.config.compose import Composer
from seqlab.config.schema import plain_config
from seqlab.errors import UserError
from seqlab.io.atomic import write_json, write_text
from seqlab.io.formatting import relative_path, shell_command
from seqlab.io.safe_io import escape_control
from seqlab.plugins.hydra_source import Sources, sources
from seqlab.study.tune.outcome import Outcome, prefer_linear, test_scores, verdict
from seqlab.study.tune.page import write_page
from seqlab.study.tune.search import FILE, SCHEMA, Row, Search
from seqlab.study.tune.study import Trial

EXPERIMENT = "tuned"
"""Name of the winner's config file, for ``experiment=``."""
_PLUGINS = ("cell", "model", "task", "preprocessing", "kernel", "optimizer")
"""Groups whose choice is the ``name`` of their node."""
_NOT_KEPT = ("hydra", "experiment", "debug", "ckpt_path")


def write_outcome(search: Search, rows: Sequence[Row], command: str) -> Outcome:
    """Write record, config file and report of a search whose models are scored, the best by validation first."""
    folder, trials = search.settings.folder, search.study.trials
    rows = prefer_linear(rows, search.metric)
    winner = rows[0].trial
    keep = write_experiment(folder / "config", search.composer.checked(winner.words), search.composer, winner.words)
    model = next((word.partition("=")[2] for word in winner.words if word.startswith("model=")), "")
    importances = {"all trials": search.study.importances()}
    if len(search.space.groups["model"]) > 1:
        importances[f"model={model}"] = search.study.importances(model)
    names = {"complete": "complete", "pruned": "pruned", "failed": "failed", "running": "unfinished"}
    counts = {name: sum(trial.state == state for trial in trials) for state, name in names.items()}
    outcome = Outcome(
        rows,
        search.metric,
        {state: count for state, count in counts.items() if count},
        search.seconds / 60,
        {title: found for title, found in importances.items() if found},
        verdict(rows, search.metric, maximises=search.maximises),
        keep,
        folder / "report" / "report.html",
        [*search.space.notes, *_unfinished_notes(trials)],
    )
    write_json(folder / FILE, _record(search, outcome, trials, command))
    write_page(outcome, trials, command)
    return outcome


def _unfinished_notes(trials: Sequence[Trial]) -> list[str]:
    names = {"linear": "linear baseline", "default": "default model"}
    states = {"running": "unfinished, and continues with more --minutes"}
    return [
        f"the {names[trial.role]} is {states.get(trial.state, trial.state)}"
        for trial in trials
        if trial.role in names and trial.state != "complete"
    ]


def _record(search: Search, outcome: Outcome, trials: Sequence[Trial], command: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "key": search.settings.key,
        "data": search.data,
        "command": command,
        "metric": outcome.metric,
        "mode": "max" if search.maximises else "min",
        "seconds": search.seconds,
        "verdict": outcome.verdict,
        "importances": outcome.importances,
        "models": [
            {"title": row.title, "trial": row.trial.number, "run": row.trial.run, **test_scores(row)}
            for row in outcome.rows
        ],
        "trials": [
            {
                "number": trial.number, "role": trial.role, "state": trial.state, "value": trial.value,
                "seconds": trial.seconds, "run": trial.run, "words": list(trial.words), "cause": trial.cause,
            }
            for trial in trials
        ],
    }  # fmt: skip


def write_experiment(folder: Path, config: Any, composer: Composer, words: Sequence[str]) -> str:
    """Write a config as ``experiment/tuned.yaml``; return the command that trains with it.

    The file holds the choices of groups and the values that differ from theirs.

    Args:
        folder: a config folder.
        config: composed.
        composer: of the same sources.
        words: overrides that the config was composed from.

    Raises:
        UserError: the file cannot express the config.
    """
    plain = plain_config(config)
    choices = {group: (plain[group] or {}).get("name") for group in _PLUGINS}
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key in ("trainer", "data", "logger"):
            choices[key] = value
    overrides = [f"{group}={'null' if name is None else name}" for group, name in choices.items()]
    base = plain_config(composer.checked(overrides))
    changed = {key: value for key, value in _changes(plain, base).items() if key not in _NOT_KEPT}
    node = {"defaults": [{f"override /{group}": name} for group, name in choices.items()], **changed}
    text = yaml.safe_dump(node, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    write_text(folder / "experiment" / f"{EXPERIMENT}.yaml", escape_control(f"# @package _global_\n{text}"))
    if (used := sources()) == Sources():
        return shell_command("--config-dir", relative_path(folder), f"experiment={EXPERIMENT}")
    own = replace(used, folders=(*used.folders, f"file://{folder.resolve()}"))  # --config-dir names one folder
    return shell_command(*own.arguments, f"experiment={EXPERIMENT}")


def _changes(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ, mapping within mapping."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in base and base[key] == value and type(base[key]) is type(value):
            continue
        other = base.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            found[key] = _changes(value, other)
        else:
            found[key] = value
    if missing := base.keys() - values.keys():
        raise UserError(f"the winner's config file cannot remove {', '.join(sorted(missing))}")
    return found
