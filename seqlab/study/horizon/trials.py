"""The runs of a search: their names, what the ledger says of them, what they found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from seqlab.config.compose import Composer
from seqlab.errors import UserError
from seqlab.plugins.hydra_source import sources
from seqlab.runs.commands import shell_command
from seqlab.runs.run_folder import RESULTS, read_json
from seqlab.runs.scores import deciding_verdict
from seqlab.study.horizon.rows import Row
from seqlab.study.horizon.search import Batch
from seqlab.sweeps.ledger import Entry, entry_of
from seqlab.sweeps.plan import run_name


@final
@dataclass(frozen=True)
class Trial:
    """One run of a search and what became of it.

    Attributes:
        row: whose it is.
        batch: with which it was asked for.
        seed: of it.
        name: of its folder.
        state: ``done``, ``failed``, or ``missing`` for anything else.
        solved: whether it solves the validation split, by which the search decides; ``None`` unless it is done.
        results: of ``results.json``: ``validation`` score, ``cost``, and of the test split ``metrics`` and ``verdict``.
        words: with which it was composed.
    """

    row: Row
    batch: Batch
    seed: int
    name: str
    state: Literal["done", "failed", "missing"]
    solved: bool | None
    results: Mapping[str, Any]
    words: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of training; 0 unless it is done."""
        return float(self.results.get("cost", {}).get("training_seconds", 0.0))

    @property
    def command(self) -> str:
        """What does the same in a run by itself."""
        return shell_command(*sources().arguments, *self.words)

    def record(self) -> dict[str, Any]:
        """Give it as ``horizon.json`` has it."""
        return {
            "distance": self.batch.distance,
            "learning_rate": self.batch.rate,
            "seed": self.seed,
            "run": self.name,
            "state": self.state,
            "solved": self.solved,
            "validation": self.results.get("validation"),
            "metrics": self.results.get("metrics", {}),
            "test_verdict": self.results.get("verdict"),
            "command": self.command,
        }


def run_folders(runs: Iterable[Sequence[str]], composer: Composer) -> list[str]:
    """Name the folders of runs by their words.

    Raises:
        hydra.errors.HydraException: a run cannot be composed.
    """
    return [run_name(config) for config in composer.all(runs)]


def trial_of(row: Row, batch: Batch, seed: int, name: str, folder: Path) -> Trial:
    """Read what became of a run.

    Args:
        row: whose it is.
        batch: with which it was asked for.
        seed: of it.
        name: of its folder.
        folder: of the sweep.
    """
    entry: Entry = entry_of(folder / name)
    words = tuple(row.run(batch, seed))
    if entry.state != "done":
        return Trial(row, batch, seed, name, "failed" if entry.state == "failed" else "missing", None, {}, words)
    try:
        record = read_json(folder / name / RESULTS)
        results = {"metrics": record["metrics"]["test"], "cost": record["cost"], "verdict": record["verdict"]}
        results |= {"validation": record["best"]["valid"], "monitor": record["best"]["monitor"]}
        solved = deciding_verdict(record) == "solved"
    except (UserError, KeyError, TypeError):  # damaged, as if it were gone
        return Trial(row, batch, seed, name, "missing", None, {}, words)
    return Trial(row, batch, seed, name, "done", solved, results, words)
