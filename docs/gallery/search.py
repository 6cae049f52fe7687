"""What the gallery says of a horizon search: its answers, when and where it ran, and two runs to put side by side."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from seqlab.study.gradient_flow import read

PAIR = ("rnn", "lstm")


def answers(report: str) -> dict[str, str]:
    """Take the sentence of each task out of a report's Markdown."""
    return dict(re.findall(r"^## (\w+)\n\n(\*\*On .*\*\*)$", report, re.MULTILINE))


def alternative(found: Mapping[str, Any], task: str) -> str:
    """Say in words what the picture of a task's horizons shows."""
    rows = [row for row in found["rows"] if row["task"] == task]
    return f"Horizons on {task}: " + ", ".join(f"{row['label']} {row['horizon'] or 'none'}" for row in rows)


def caption(found: Mapping[str, Any]) -> str:
    """Say how the pictures of the search are read, what it cost, and whether it has ended."""
    ended = "has ended" if found["finished"] else "was stopped before it had ended, so that intervals may yet narrow"
    return (
        "The mark is the largest distance at which at least two of three seeds solve the task, the line goes from the"
        " largest that all solve to the smallest that none solves; an arrow: no distance was found that none solves."
        f" Below them the scores that this was read from. The search {ended}; it took {found['runs']:,} runs of the"
        f" {found['grid_runs']:,} that the full grid has. [How it searches](../do/horizon.md).\n"
    )


def about(sweep: Path) -> str:
    """Say when a sweep's last run began, and on what."""
    runs = sorted(sweep.glob("*/run.json"))
    began = max(json.loads(run.read_text("utf-8")).get("began") or 0 for run in runs)
    record = next(sweep.glob("*/results.json"))
    return machine(datetime.fromtimestamp(began, UTC), json.loads(record.read_text("utf-8")))


def machine(day: datetime, record: Mapping[str, Any]) -> str:
    """Say a day and a run's hardware."""
    hardware, torch = record["hardware"], record["versions"]["torch"]
    return f"{day.day} {day:%B %Y}; {hardware['cpu']}, {hardware['cpu_threads']} threads of the CPU; torch {torch}"


@final
@dataclass(frozen=True)
class Pair:
    """A run of each of :data:`PAIR`, alike in task, distance and seed.

    Attributes:
        runs: their folders.
        distance: of the task.
    """

    runs: tuple[Path, Path]
    distance: int

    def caption(self) -> str:
        """Say what is left of the gradient at the first step, before and after training."""
        said = []
        for label, folder in zip(PAIR, self.runs, strict=True):
            early, late = self.left(folder)
            said.append(f"the {label.upper()} has {early:.1g} of it before training and {late:.1g} after")
        return (
            f"Both read {self.distance} symbols and have to say the first. What the last state is told to change, the"
            " gradient carries back; shown is how much of it there is at each earlier state. At the first one,"
            f" {said[0]}, {said[1]}. A line that falls to nothing leaves nothing to learn from that far"
            " back. [How it is measured](../do/gradient_flow.md).\n"
        )

    def left(self, folder: Path) -> tuple[float, float]:
        """Give the gradient of ``h`` at the first step to that at the last, at the first moment and at the last."""
        flow = read(folder)
        assert flow is not None  # a pair has the files
        shares = []
        for step in (flow.steps[0], flow.steps[-1]):
            curve = flow.curve(step, layer=0, direction="forward", state="h")
            shares.append(curve[-1].norm / curve[0].norm)
        return shares[0], shares[1]


def pair(sweep: Path, task: str) -> Pair | None:
    """Find runs of both cells of :data:`PAIR` at the largest distance that both have, of the least seed and rate."""
    found = {cell: dict(sorted(of_cell(sweep, task, cell), reverse=True)) for cell in PAIR}
    common = set(found[PAIR[0]]) & set(found[PAIR[1]])
    if not common:
        return None
    best = max(common, key=lambda key: (key[0], -key[1], -key[2]))
    return Pair((found[PAIR[0]][best], found[PAIR[1]][best]), best[0])


def of_cell(sweep: Path, task: str, cell: str) -> Iterator[tuple[tuple[int, int, float], Path]]:
    """Give the runs of a cell as it is by default but for its forget bias: distance, seed, learning rate, folder."""
    for path in sweep.glob("*/run.json"):
        run = json.loads(path.read_text("utf-8"))
        words = dict(word.partition("=")[::2] for word in run["words"])
        plain = not any(key.startswith("cell.") and key != "cell.forget_bias" for key in words)
        measured = run["state"] == "done" and (path.parent / "curves" / "gradient_flow.csv").is_file()
        if measured and plain and (words.get("task"), words.get("cell")) == (task, cell):
            yield (int(words["task.sequence_length"]), int(words["seed"]), float(words["optimizer.lr"])), path.parent
