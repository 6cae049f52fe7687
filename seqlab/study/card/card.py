"""Card of a cell: its stages in order, and ``card.json``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, final

from seqlab.errors import UserError
from seqlab.io.atomic import write_json
from seqlab.io.safe_io import escape_control
from seqlab.runs.environment import hardware, versions
from seqlab.runs.run_folder import find_json, read_json
from seqlab.study.card.measure import Measurement, search_reach
from seqlab.study.card.pool import Pool
from seqlab.study.card.protocol import Protocol as CardProtocol
from seqlab.study.card.rates import choose_rate
from seqlab.study.card.scores import state_bits
from seqlab.study.card.spectrum import conclude
from seqlab.study.card.subject import Subject
from seqlab.study.horizon.settings import read_settings

FILE = "card.json"
SCHEMA = "card 1"

Checks = Callable[[], Sequence[Mapping[str, Any]]]
"""Runs the conformance tests: ``check``, ``demand``, ``result``, ``detail`` and ``seconds`` of each."""


class Progress(Protocol):
    """What a card reports while it is made."""

    def begin(self, stage: str, runs: int = 0) -> None:
        """Start a stage, with about this number of runs left in all."""

    def advance(self) -> None:
        """Count a run that has ended."""


@final
class Card:
    """A card in the making; each stage is written to ``card.json`` when it is done.

    A card that was stopped goes on: runs that are done are not repeated, nor are the other stages, as long as protocol,
    cell and versions are the same.

    Args:
        protocol: what is measured.
        subject: the cell.
        folder: of the card.
        command: that makes it.

    Attributes:
        record: content of ``card.json``.
    """

    def __init__(self, protocol: CardProtocol, subject: Subject, folder: Path, command: str) -> None:
        self.protocol, self.subject, self.folder = protocol, subject, folder
        before = find_json(folder / FILE) or {}
        kept = self._kept = before if before.get("key") == subject.key(protocol) else {}
        self.record: dict[str, Any] = {
            "schema": SCHEMA,
            "protocol": protocol.version,
            "protocol_digest": protocol.digest,
            "key": subject.key(protocol),
            "cell": subject.label,
            "owner": subject.owner,
            "hidden_size": subject.hidden_size,
            "parameters": subject.parameters,
            "parameter_budget": protocol.parameters,
            "state_size": subject.state_size,
            "state_bits": state_bits(subject.state_size),
            "seeds": protocol.seeds,
            "finished": False,
            "command": command,
            "versions": versions(),
            "hardware": hardware(),
            "missing_tasks": protocol.missing_tasks(),
            "summary": [],
            **{stage: kept.get(stage) for stage in ("spectrum", "cost", "conformance")},
            "learning_rate": None,
            "reach": None,
            "parts": [],
        }

    def make(self, jobs: int, checks: Checks, progress: Progress, *, retry: bool = False) -> dict[str, Any]:
        """Measure what is not measured yet; return the record.

        Args:
            jobs: number of processes that train.
            checks: conformance tests.
            progress: is told about stages and runs.
            retry: whether to train runs that failed again.
        """
        self._measure_cell(checks, progress)
        with Pool(jobs, progress.advance, retry=retry) as pool:
            measurement = Measurement(self.protocol, self.subject, self.folder, pool)
            if pilots := self.protocol.pilots:
                progress.begin("learning rate", len(measurement.pending(pilots, self.protocol.learning_rates)))
            self.record["learning_rate"] = choose_rate(measurement)
            self._write()
            if self.protocol.reach is not None:
                left = _search_runs(self.protocol) + len(measurement.pending(self.protocol.parts))
                progress.begin("reach", left)
                self.record["reach"] = search_reach(measurement, self.protocol.reach, pool.run)
                self._write()
            stage = ", ".join(part.name for part in self.protocol.parts)
            progress.begin(stage, len(measurement.pending(self.protocol.parts)))
            measurement.train(self.protocol.parts)
            self.record["parts"] = [measurement.part(part) for part in self.protocol.parts]
        self.record["finished"] = not list(unfinished(self.record))
        self._write()
        return self.record

    def time(self, progress: Progress) -> dict[str, Any]:
        """Measure the cost again, and keep the rest of the card; return the record.

        Raises:
            UserError: there is no card of this cell, protocol and version.
        """
        if not self._kept:
            raise UserError(f"{self.folder} has no card of {self.subject.label} by this protocol and these versions")
        progress.begin("cost")
        self.record = {**self._kept, "hardware": hardware(), "cost": self._cost()}
        self._write()
        return self.record

    def _measure_cell(self, checks: Checks, progress: Progress) -> None:
        stages: dict[str, Callable[[], Any]] = {
            "spectrum": self._spectrum,
            "cost": self._cost,
            "conformance": lambda: [dict(each) for each in checks()],
        }
        for stage, measure in stages.items():
            if self.record[stage] is None:
                progress.begin(stage)
                self.record[stage] = measure()
                self._write()

    def _spectrum(self) -> dict[str, Any]:
        if (found := self.subject.spectrum()) is None:
            return {"measured": None, "theory": []}
        return {"measured": found.record(), "theory": [asdict(each) for each in conclude(found)]}

    def _cost(self) -> dict[str, Any]:
        from seqlab.study.card.cost import measure_cost

        return measure_cost(self.subject.layer(self.protocol.cost.inputs), self.protocol.cost)

    def _write(self) -> None:
        self.record["summary"] = list(summary(self.record))
        write_json(self.folder / FILE, self.record)


def _search_runs(protocol: CardProtocol) -> int:
    """Return about how many runs a search takes: fixed lengths are taken to be five on each task."""
    assert protocol.reach is not None
    kinds = read_settings(dict(protocol.reach.settings)).protocols
    return protocol.seeds * len(protocol.reach.tasks) * sum(5 if kind == "fixed" else 1 for kind in kinds)


def unfinished(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a second call would go on with; neither a missing task nor a failed run is."""
    for row in (record["reach"] or {}).get("rows", []):
        if not row["finished"] and (row["open"] or not row["failed"]):
            yield f"{row['task']}, {row['protocol']}"
    for part in record["parts"]:
        for row in part["rows"]:
            if any(run["state"] not in ("done", "failed") for run in row["runs"]):
                yield row["label"]


def summary(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the columns of a leaderboard: section, name, value, ends of its interval, and which is better."""

    def column(section: str, name: str, found: Mapping[str, Any] | None, better: str = "max") -> dict[str, Any]:
        value = {key: (found or {}).get(key) for key in ("mean", "low", "high")}
        return {"section": section, "name": name, "better": better, "value": value.pop("mean"), **value}

    if (checks := record["conformance"]) is not None:
        failed = sum(each["result"] == "failed" for each in checks)
        yield column("conformance", "failed checks", {"mean": failed}, "min")
    if (cost := record["cost"]) is not None:
        own = [row for row in cost["kernels"] if row["name"] != cost["baseline"]["name"]]
        if own:
            fastest = max(own, key=lambda row: row["ratio"])
            yield column("cost", f"speed / {cost['baseline']['name']}", {**fastest, "mean": fastest["ratio"]})
    for row in (record["reach"] or {}).get("rows", []):
        found = {"mean": row["horizon"] or 0, "low": row["lower"] or 0, "high": row["upper"]}
        undecided = row["failed"] and not row["finished"]  # a failed run is no evidence of a limit
        yield column("reach", f"{row['task']}, {row['protocol']}", None if undecided else found)
    for part in record["parts"]:
        yield from _part_columns(part, column)


def _part_columns(part: Mapping[str, Any], column: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    rows, name = part["rows"], part["title"].lower()
    if part["kind"] == "bits":
        yield column(name, "bits recalled", chosen_bits(part))
        return
    for row in rows:
        better = row.get("mode") or "max"
        if part["kind"] == "scores":
            yield column(name, row["label"], row.get("score"), better)
            continue
        own = [each["score"] for each in row.get("lengths", []) if each["length"] == part["trained"]]
        yield column(name, f"{row['label']}, {part['trained']}", next(iter(own), None), better)
        yield column(name, f"{row['label']}, beyond", row.get("beyond"), better)


def chosen_bits(part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the bits recalled on the test split at the size that was chosen on validation."""
    return next((row.get("bits") for row in part["rows"] if row["label"] == part["chosen"]), None)


def read_card(place: Path) -> dict[str, Any]:
    """Read a card, which may come from anyone, and check what a leaderboard shows of it.

    Args:
        place: its folder or file.

    Raises:
        UserError: it is no card, or one of another schema.
    """
    path = place / FILE if place.is_dir() else place
    if not path.is_file():
        raise UserError(f"{place} is no card: it has no {FILE}")
    record = read_json(path)
    if record.get("schema") != SCHEMA:
        raise UserError(f"{path} has schema {str(record.get('schema'))[:40]!r}; this version reads {SCHEMA!r}")
    for key, kind in _TYPES.items():
        if not isinstance(record.get(key), kind):
            raise UserError(f"{path} is damaged: its {key} is {str(record.get(key))[:40]!r}")
    for each in record["summary"]:
        if not isinstance(each, dict) or not _is_column(each):
            raise UserError(f"{path} is damaged: its summary has {str(each)[:80]!r}")
    texts = {key: escape_control(record[key])[:200] for key, kind in _TYPES.items() if kind is str}
    return {**record, **texts}


_TYPES: Mapping[str, type] = {
    "protocol": str, "protocol_digest": str, "cell": str, "owner": str, "parameters": int, "state_bits": int,
    "finished": bool, "summary": list,
}  # fmt: skip


def _is_column(each: Mapping[str, Any]) -> bool:
    texts = all(
        isinstance(each.get(key), str) and len(each[key]) <= 100 and each[key].isprintable()
        for key in ("section", "name")
    )
    numbers = all(key in each and _is_number(each[key]) for key in ("value", "low", "high"))
    return texts and numbers and each.get("better") in ("min", "max")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
