"""Runs of a search and their outcomes, and the search for one row."""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, final

from seqlab.errors import UserError
from seqlab.io.formatting import shell_command
from seqlab.plugins.hydra_source import sources
from seqlab.runs.run_folder import RESULTS, read_json
from seqlab.runs.scores import deciding_verdict
from seqlab.study.horizon.curriculum import CurriculumSearch
from seqlab.study.horizon.limits import Diagnostics, read_diagnostics
from seqlab.study.horizon.search import Batch, Finding, Rules, Search
from seqlab.study.horizon.settings import Row
from seqlab.sweeps.ledger import read_entry


@final
@dataclass(frozen=True)
class Trial:
    """One run of a search and its outcome.

    Attributes:
        name: of the run folder.
        state: ``done``, ``failed``, or ``missing`` for any other.
        reached: largest length that the run solves on the validation split, which decides the search: its distance or
            the end of its curriculum; 0 for none, ``None`` unless it is done.
        results: of ``results.json``: ``validation`` score, ``monitor``, ``cost``, of the test split ``metrics`` and
            ``verdict``; ``steps`` and ``seconds`` of training to the length reached, and ``generalises``, the longest
            tested length up to which the model solves every one on test.
    """

    batch: Batch
    seed: int
    name: str
    state: Literal["done", "failed", "missing"]
    reached: int | None
    results: Mapping[str, Any]
    overrides: tuple[str, ...]

    @property
    def solved(self) -> bool | None:
        """Whether the run solves any length; ``None`` unless it is done."""
        return None if self.reached is None else self.reached > 0

    @property
    def cost(self) -> Mapping[str, Any]:
        """``cost`` of ``results.json``; empty unless the run is done."""
        cost: Mapping[str, Any] = self.results.get("cost", {})
        return cost

    def record(self) -> dict[str, Any]:
        """Return the trial as it stands in ``horizon.json``."""
        return {
            "distance": self.batch.distance,
            "learning_rate": self.batch.rate,
            "seed": self.seed,
            "run": self.name,
            "state": self.state,
            "solved": self.solved,
            "reached": self.reached,
            **{name: self.results.get(name) for name in ("validation", "generalises", "steps", "seconds")},
            "metrics": self.results.get("metrics", {}),
            "verdict": self.results.get("valid_verdict"),
            "test_verdict": self.results.get("verdict"),
            "command": shell_command(*sources().arguments, *self.overrides),
        }


def read_trial(folder: Path, batch: Batch, seed: int, overrides: Sequence[str]) -> Trial:
    """Read the outcome of a run; damaged results count as missing."""
    state = read_entry(folder).state
    results: dict[str, Any] = {}
    reached: int | None = None
    if state == "done":
        try:
            record = read_json(folder / RESULTS)
            best, cost = record["best"], record["cost"]
            results = {"metrics": record["metrics"]["test"], "cost": cost, "verdict": record["verdict"]}
            results |= {"validation": best["valid"], "monitor": best["monitor"]}
            results["valid_verdict"] = deciding_verdict(record)
            lengths = record.get("lengths") or {}
            results |= {"steps": lengths.get("steps"), "seconds": lengths.get("seconds")}
            if lengths.get("protocol") == "curriculum":
                reached = lengths["reached"] or 0
            else:
                reached = batch.distance if results["valid_verdict"] == "solved" else 0
            results["generalises"] = generalises(record, reached)
        except (UserError, KeyError, TypeError):
            state, results, reached = "missing", {}, None
    known: Literal["done", "failed", "missing"] = state if state in ("done", "failed") else "missing"
    return Trial(batch, seed, folder.name, known, reached, results, tuple(overrides))


def generalises(record: Mapping[str, Any], reached: int) -> int | None:
    """Return the longest tested length up to which a run solves every tested one beyond the length it was trained to.

    That is at least ``reached``; ``None`` if nothing was reached or no longer length was tested.
    """
    monitor, sign = record["best"]["monitor"], 1 if record["best"]["mode"] == "max" else -1
    (bounds, *_) = record["tables"].get("bounds") or [{}]
    tests: dict[int, bool] = {}
    for row in record["tables"].get("further_tests") or ():
        if (length := re.fullmatch(r"length (\d+)", row["split"])) and row[monitor] is not None and bounds:
            tests[int(length[1])] = sign * row[monitor] >= sign * bounds["solved"]
    longer = sorted(length for length in tests if length > reached)
    if not reached or not longer:
        return None
    failed = next((place for place, length in enumerate(longer) if not tests[length]), len(longer))
    return longer[failed - 1] if failed else reached


@final
@dataclass
class RowSearch:
    """The search for one row's horizon.

    Attributes:
        pending: batch to run next; ``None`` once the search has ended.
        measured: of the runs just beyond the horizon, once the search has ended.
    """

    row: Row
    search: Search | CurriculumSearch
    batches: Generator[Batch, Mapping[int, Any], None]
    pending: Batch | None = None
    trials: list[Trial] = field(default_factory=list)
    measured: Sequence[Diagnostics] | None = None

    @classmethod
    def of(cls, row: Row, rules: Rules) -> "RowSearch":
        """Create the search of the row's protocol and its first batch."""
        if row.learning_rates:
            rules = replace(rules, rates=row.learning_rates)
        search = CurriculumSearch(rules) if row.protocol == "curriculum" else Search(rules)
        batches: Generator[Batch, Mapping[int, Any], None] = search.batches()
        return cls(row, search, batches, next(batches))

    @property
    def is_curriculum(self) -> bool:
        """Whether the training lengths of its runs grow."""
        return self.row.protocol == "curriculum"

    @property
    def finding(self) -> Finding:
        """Result so far."""
        return self.search.finding

    @property
    def seconds(self) -> float:
        """Training time of the last run; the slowest rows start first, so that none runs alone at the end."""
        return max((trial.cost.get("training_seconds", 0.0) for trial in self.trials[-1:]), default=0.0)

    @property
    def decisive(self) -> list[Trial]:
        """Trials that decide the horizon: no longer budget, no repetition for further tests."""
        return [
            trial for trial in self.trials if self.is_curriculum or not (trial.batch.further or trial.batch.budget > 1)
        ]

    @property
    def at_horizon(self) -> list[Trial]:
        """Trials at the best learning rate that reach the horizon, those with further tests if there are any."""
        found, rate = self.finding.horizon, self.finding.learning_rate
        if found is None:
            return []
        trials = [trial for trial in self.trials if trial.batch.rate == rate and trial.batch.budget == 1]
        reached = [trial for trial in trials if (trial.reached or 0) >= found]
        if not self.is_curriculum:
            reached = [trial for trial in reached if trial.reached == found]
        return [trial for trial in reached if trial.batch.further] or reached

    def send(self, batch: Batch) -> None:
        """Hand the outcomes of the pending batch to the search."""
        trials = [trial for trial in self.trials if trial.batch is batch]
        outcomes = {trial.seed: trial.reached if self.is_curriculum else trial.solved for trial in trials}
        try:
            self.pending = self.batches.send(outcomes)
        except StopIteration:
            self.pending = None

    def effort(self) -> dict[str, Any]:
        """Return ``generalises``, which at least 2/3 of the seeds reach, and medians of ``steps`` and ``seconds``."""
        trials = self.at_horizon
        lengths = sorted((trial.results["generalises"] or 0 for trial in trials), reverse=True)
        needed = self.search.rules.needed
        longest = lengths[needed - 1] if len(lengths) >= needed else 0
        times = {
            name: [trial.results[name] for trial in trials if trial.results[name]] for name in ("steps", "seconds")
        }
        return {"generalises": longest or None} | {
            name: median(values) if values else None for name, values in times.items()
        }

    def diagnostics(self, folder: Path) -> Sequence[Diagnostics]:
        """Read the measurements of the runs just beyond the horizon, once the search has ended."""
        if self.measured is None:
            self.measured = [read_diagnostics(folder / trial.name) for trial in self._unsolved()]
        return self.measured

    def _unsolved(self) -> list[Trial]:
        """Return the unsolved trials at the smallest distance beyond the horizon, at the best rate if there are any.

        Under a curriculum that is every run at the best rate that ends below the largest length.
        """
        finding = self.finding
        if self.is_curriculum:
            found = [
                trial for trial in self.trials if trial.reached is not None and trial.reached < trial.batch.distance
            ]
        else:
            beyond = [
                trial
                for trial in self.decisive
                if trial.batch.distance > (finding.horizon or 0) and trial.solved is False
            ]
            nearest = min((trial.batch.distance for trial in beyond), default=0)
            found = [trial for trial in beyond if trial.batch.distance == nearest]
        return [trial for trial in found if trial.batch.rate == finding.learning_rate] or found
