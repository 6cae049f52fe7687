"""Measurements of a card: the horizon search, the runs of each part, and what is read from them."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from hydra.errors import HydraException

from seqlab.config.compose import compose
from seqlab.errors import UserError, one_line
from seqlab.plugins.registry import plugins
from seqlab.runs.results import read_results
from seqlab.study import gradient_flow
from seqlab.study.card.pool import Pool, run_folder
from seqlab.study.card.protocol import Part, Protocol, Reach, Row
from seqlab.study.card.scores import recalled_bits, record_interval, score_interval
from seqlab.study.card.subject import Subject
from seqlab.study.horizon.runner import SearchRunner
from seqlab.study.horizon.settings import read_settings
from seqlab.study.intervals import Range
from seqlab.sweeps.ledger import read_entry

RUNS, REACH = "runs", "reach"
"""Folders of the runs, in that of the card."""


@final
class Measurement:
    """Trains the runs of a card and reads them.

    Args:
        protocol: what is measured.
        subject: the cell.
        folder: of the card.
        pool: trains runs.

    Attributes:
        rate: learning rate.
        runs: folder of the runs of the parts.
    """

    def __init__(self, protocol: Protocol, subject: Subject, folder: Path, pool: Pool) -> None:
        self.protocol, self.subject, self.folder, self._pool = protocol, subject, folder, pool
        self.rate, self.runs = protocol.learning_rates[0], folder / RUNS

    def run_words(self, part: Part, row: Row, seed: int, rate: float | None = None) -> list[str]:
        """Return the overrides of a run; without a rate, at the chosen one."""
        lr = f"optimizer.lr={self.rate if rate is None else rate}"
        return [*self.protocol.words, lr, *part.run_words(row), *self.subject.words, f"seed={seed}"]

    def missing_reason(self, part: Part, row: Row) -> str | None:
        """Return why a row has no runs; ``None`` if it has."""
        if (task := part.task_of(row)) not in plugins("task"):
            return f"task={task} is not installed"
        try:
            compose(self.run_words(part, row, 0))
        except (UserError, HydraException) as error:
            return one_line(error)
        return None

    def pending(self, parts: Sequence[Part], rates: Sequence[float | None] = (None,)) -> list[tuple[str, ...]]:
        """Return the overrides of the runs of some parts that have not ended, at the chosen rate or at several."""
        rows = [(part, row) for part in parts for row in part.rows if self.missing_reason(part, row) is None]
        runs = [
            self.run_words(part, row, seed, rate)
            for part, row in rows
            for rate in rates
            for seed in range(self.protocol.seeds_of(part))
        ]
        return self._pool.pending(self.runs, runs)

    def train(self, parts: Sequence[Part], rates: Sequence[float | None] = (None,)) -> None:
        """Train the runs of some parts, those of all in one queue."""
        self._pool.run(self.runs, self.pending(parts, rates))

    def part(self, part: Part) -> dict[str, Any]:
        """Return a part as it stands in the card."""
        facts: dict[str, Any] = {"name": part.name, "title": part.title, "text": part.text, "kind": part.kind}
        if part.kind == "lengths":
            facts |= {"trained": part.trained, "tested": list(part.tested)}
        rows = [self._row(part, row) for row in part.rows]
        if part.kind == "bits":
            facts["chosen"] = _most_bits(rows)
        return {**facts, "rows": rows}

    def _row(self, part: Part, row: Row) -> dict[str, Any]:
        record: dict[str, Any] = {"label": row.label, "missing": self.missing_reason(part, row), "runs": []}
        if record["missing"] is not None:
            return record
        for seed in range(self.protocol.seeds):
            words = self.run_words(part, row, seed)
            record["runs"].append({"seed": seed, **_read_run(run_folder(self.runs, words), part, row)})
        done = [run for run in record["runs"] if run["state"] == "done"]
        if not done:
            causes = {run["cause"] for run in record["runs"] if run["cause"]}
            return {**record, "missing": next(iter(causes), "no run is done")}
        first = done[0]
        record |= {key: first.pop(key) for key in ("metric", "mode", "examples", "limits")}
        for run in done[1:]:
            for key in ("metric", "mode", "examples", "limits"):
                del run[key]
        record["solved"] = sum(run["solved"] for run in done)
        found = _summary(part, row, done, record["examples"], Range(*record["limits"]))
        if any(run["state"] == "failed" for run in record["runs"]):  # the mean over the others would favour the cell
            found |= {key: None for key in ("score", "bits", "beyond") if key in found}
        return record | found


def _read_run(folder: Path, part: Part, row: Row) -> dict[str, Any]:
    entry = read_entry(folder)
    facts: dict[str, Any] = {"run": folder.name, "state": entry.state, "cause": entry.cause}
    if entry.state != "done":
        return facts
    record = read_results(folder)
    monitor, lengths = record["best"]["monitor"], record.get("lengths") or {}
    test, baseline = record["metrics"]["test"], record["chance"]["test"]
    further = record["tables"].get("further_tests") or []
    facts |= {
        "metric": monitor,
        "mode": record["best"]["mode"],
        "limits": limits_of(record, monitor, part),
        "examples": record["data"]["test"]["examples"],
        "score": test[monitor],
        "baseline": baseline[monitor],
        "solved": _is_solved(record, part),
        "reached": lengths.get("reached"),
        "lengths": {
            each["split"].removeprefix("length "): [each[monitor], each[f"chance_{monitor}"]] for each in further
        },
        "steps": record["cost"]["steps"],
        "seconds": record["cost"]["training_seconds"],
        "cut": _is_cut(record),
    }
    if row.steps:
        for key, split in (("bits", "test"), ("valid_bits", "valid")):
            if (loss := record["metrics"][split].get("loss")) is not None:
                facts[key] = recalled_bits(row.bits, loss, row.steps)
    return facts


def _is_cut(record: Mapping[str, Any]) -> bool:
    """Return whether the clock ended a run before its budget of steps."""
    cost, trainer = record["cost"], record["config"]["trainer"]
    if trainer["max_minutes"] is None or 0 < trainer["max_steps"] <= cost["steps"]:
        return False
    return bool(cost["fit_seconds"] >= 60 * trainer["max_minutes"])


def _most_bits(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the label of the row that recalls most on validation, where no run failed."""
    known = {
        row["label"]: statistics.fmean(run["valid_bits"] for run in row["runs"])
        for row in rows
        if row["runs"] and all("valid_bits" in run for run in row["runs"])
    }
    return max(known, key=lambda label: known[label], default=None)


def _is_solved(record: Mapping[str, Any], part: Part) -> bool:
    """Return whether a run solves its task on validation; of growing lengths, the largest one."""
    if part.kind == "lengths":
        return bool((record.get("lengths") or {}).get("reached") == part.trained)
    return bool(record["best"]["verdict"] == "solved")


def limits_of(record: Mapping[str, Any], monitor: str, part: Part) -> list[float | None]:
    """Return the limits of a score: the metric's, else the part's, and the best possible score."""
    low, high = record["ranges"].get(monitor) or (None, None)
    (bounds, *_) = record["tables"].get("bounds") or [{}]
    best = bounds.get("optimal")
    if record["best"]["mode"] == "min":
        return [best if low is None else low, high]
    if low is None and high is None and part.limits:
        low, high = part.limits
    return [low, best if high is None else high]


def _summary(part: Part, row: Row, runs: Sequence[Mapping[str, Any]], examples: int, limits: Range) -> dict[str, Any]:
    """Return means over seeds with their intervals, and the input-independent baseline."""

    def of(values: Iterator[Any], count: int = examples) -> dict[str, Any] | None:
        found = list(values)
        if None in found:  # a score that is not finite has no mean
            return None
        return record_interval(score_interval([float(value) for value in found], count, limits))

    found = {"score": of(run["score"] for run in runs), "baseline": _mean(run["baseline"] for run in runs)}
    if part.kind == "bits":
        bits = [run["bits"] for run in runs if "bits" in run]
        within = record_interval(score_interval(bits, 0, Range(0.0, row.bits))) if bits else None
        return {**found, "bits": within, "asked": row.bits}
    if part.kind != "lengths":
        return found
    longer = [str(length) for length in part.tested if length > part.trained]
    by_length = [
        {
            "length": length,
            "score": of(run["lengths"].get(str(length), [None])[0] for run in runs),
            "baseline": _mean(run["lengths"].get(str(length), [None, None])[1] for run in runs),
        }
        for length in part.tested
    ]
    tested = [[run["lengths"].get(length, [None])[0] for length in longer] for run in runs]
    beyond = [None if not each or None in each else statistics.fmean(each) for each in tested]
    return {**found, "lengths": by_length, "beyond": of(iter(beyond), examples * max(1, len(longer)))}


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


_STATES = {"failed": "failed", "open": "missing"}
"""Counts of a row of the search, and the state of their runs."""


def search_reach(
    measurement: Measurement, reach: Reach, launch: Callable[[Path, Sequence[Sequence[str]]], None]
) -> dict[str, Any]:
    """Search the horizons of the cell, and read the gradient flow of a run at one of them.

    Args:
        measurement: of the card.
        reach: its search.
        launch: trains runs in a folder.

    Returns:
        ``rows`` of the search, ``missing`` tasks, and ``flow``.
    """
    tasks = [name for name in reach.tasks if name in plugins("task")]
    missing = [name for name in reach.tasks if name not in tasks]
    if not tasks:
        return {"rows": [], "missing": missing, "flow": None}
    protocol, folder = measurement.protocol, measurement.folder / REACH
    settings = read_settings({
        "seeds": protocol.seeds, "learning_rates": [measurement.rate], **reach.settings,
    })  # fmt: skip
    words = [*protocol.words, *reach.words, *measurement.subject.words, f"task={','.join(tasks)}"]
    chosen = [
        "hydra/sweeper=horizon",
        *(f"hydra.sweeper.{key}={_typed(value)}" for key, value in settings_of(settings)),
    ]
    runner = SearchRunner(folder, [*chosen, *words], words, settings, lambda runs: launch(folder, runs))
    runner.run()
    record = runner.record()
    keys = ("task", "protocol", "horizon", "lower", "upper", "generalises", "finished", "cause", "because", "steps")
    rows = [
        {key: row[key] for key in keys}
        | {"trials": len(row["trials"])}
        | {name: sum(trial["state"] == state for trial in row["trials"]) for name, state in _STATES.items()}
        for row in record["rows"]
    ]
    flow = next(filter(None, (_flow(folder, row) for row in record["rows"])), None)
    return {"command": record["command"], "runs": record["runs"], "rows": rows, "missing": missing, "flow": flow}


def settings_of(settings: Any) -> list[tuple[str, Any]]:
    """Return the settings that differ from their defaults."""
    default = type(settings)()
    names = [name for name in settings.__dataclass_fields__ if getattr(settings, name) != getattr(default, name)]
    return [(name, getattr(settings, name)) for name in names]


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_typed, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flow(folder: Path, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the gradient norms, relative to the last step's, at the start and the end of one run.

    It is the run of the first seed at the horizon, or at the smallest distance without one.
    """
    done = [trial for trial in row["trials"] if trial["state"] == "done"]
    if row["protocol"] != "fixed" or not done:
        return None
    wanted = row["horizon"] or min(trial["distance"] for trial in done)
    trial = min((each for each in done if each["distance"] == wanted), key=lambda each: each["seed"], default=None)
    found = gradient_flow.read(folder / trial["run"]) if trial else None
    if trial is None or found is None or not found.rows:
        return None
    curves = []
    for when, step in zip(("start", "end"), (found.steps[0], found.steps[-1]), strict=True):
        for layer, direction, state in found.places:
            rows = found.curve(step, layer, direction, state)
            if rows and rows[0].norm > 0:
                pairs = [[each.distance, each.norm / rows[0].norm] for each in rows]
                curves.append({"when": when, "step": step, "state": state, "ratios": pairs})
    return {"task": row["task"], "distance": trial["distance"], "run": trial["run"], "curves": curves}
