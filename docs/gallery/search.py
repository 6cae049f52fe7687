"""Results and a pair of comparable runs of a horizon search."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from seqlab.study.gradient_flow import read

PAIR = ("rnn", "lstm")


def answers(report: str) -> dict[str, str]:
    """Return the result sentence of each task from a report's Markdown."""
    return dict(re.findall(r"^## Results: (\w+)\n\n(\*\*On .*\*\*)$", report, re.MULTILINE))


def caption(found: Mapping[str, Any]) -> str:
    """Return how to read the pictures of a search, its number of runs, and whether it is complete."""
    ended = "" if found["finished"] else " The search is incomplete; intervals may narrow."
    return (
        "Mark: largest distance that at least two of three seeds solve; line: from the largest that all solve to the"
        f" smallest that none solves (arrow: none found). [The search](../do/horizon.md) took {found['runs']:,} runs; a"
        f" full grid has {found['grid_runs']:,}.{ended}\n"
    )


@final
@dataclass(frozen=True)
class Pair:
    """Runs of the cells of :data:`PAIR` with equal task, distance and seed.

    Attributes:
        runs: folders, in the order of :data:`PAIR`.
        distance: the distance of the task.
        task: its name.
    """

    runs: tuple[Path, Path]
    distance: int
    task: str

    def caption(self) -> str:
        """Return the share of the gradient at the first step, before and after training."""
        said = []
        for label, folder in zip(PAIR, self.runs, strict=True):
            early, late = self.left(folder)
            said.append(f"{label.upper()} {early:.1g} before and {late:.1g} after training")
        return (
            f"[Gradient](../do/gradient_flow.md) at the first of {self.distance} steps on {self.task}, relative to the"
            f" last: {said[0]}; {said[1]}.\n"
        )

    def left(self, folder: Path) -> tuple[float, float]:
        """Return the gradient norm of ``h`` at the first step over that at the last, before and after training."""
        flow = read(folder)
        assert flow is not None  # a pair has the files
        shares = []
        for step in (flow.steps[0], flow.steps[-1]):
            curve = flow.curve(step, layer=0, direction="forward", state="h")
            shares.append(curve[-1].norm / curve[0].norm)
        return shares[0], shares[1]


def pair(sweep: Path, task: str) -> Pair | None:
    """Return runs of both cells at the largest common distance, with the lowest seed and learning rate."""
    found = {cell: dict(sorted(of_cell(sweep, task, cell), reverse=True)) for cell in PAIR}
    common = set(found[PAIR[0]]) & set(found[PAIR[1]])
    if not common:
        return None
    best = max(common, key=lambda key: (key[0], -key[1], -key[2]))
    return Pair((found[PAIR[0]][best], found[PAIR[1]][best]), best[0], task)


def of_cell(sweep: Path, task: str, cell: str) -> Iterator[tuple[tuple[int, int, float], Path]]:
    """Yield (distance, seed, learning rate) and folder of a cell's runs with default options but any forget bias."""
    for path in sweep.glob("*/run.json"):
        run = json.loads(path.read_text("utf-8"))
        overrides = dict(override.partition("=")[::2] for override in run["words"])
        plain = not any(key.startswith("cell.") and key != "cell.forget_bias" for key in overrides)
        measured = run["state"] == "done" and (path.parent / "curves" / "gradient_flow.csv").is_file()
        if measured and plain and (overrides.get("task"), overrides.get("cell")) == (task, cell):
            yield (
                (int(overrides["task.sequence_length"]), int(overrides["seed"]), float(overrides["optimizer.lr"])),
                path.parent,
            )
