"""Scaling law of horizon searches: exponents, and how many held-out horizons its predictions meet.

    python -m seqlab -m experiment=horizon_law hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra.sweep.dir=FOLDER
    python benchmarks/horizon_law.py FOLDER... [--narrow] [--csv F.csv] [--figure F.png]

A search resumes where it was stopped. Held-out points are fixed by their factors alone: 800 training steps, or 400 with
32 units (extrapolation), and a quarter of the others, drawn by a fixed seed (interpolation). An interval is that of the
search, from all seeds to none; with --narrow, from the horizon, solved by 2/3 of the seeds, to the next distance tried.
"""

import argparse
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqlab.io.csv_files import csv_text
from seqlab.runs.run_folder import read_json
from seqlab.study.law import Law, Point, bounded_groups, fit_law, read_points
from seqlab.sweeps.ledger import read_plan

HIDDEN, STEPS, RATE = "cell.hidden_size", "trainer.max_steps", "optimizer.lr"
SEED, SHARE = 0, 0.25
KINDS = ("interpolation", "extrapolation")


def kind(point: Point) -> str:
    """Return for what a point is held out, or ``fit``."""
    hidden, steps = point.factors[HIDDEN], point.factors[STEPS]
    if steps >= 800 or (steps >= 400 and hidden >= 32):
        return "extrapolation"
    drawn = random.Random(f"{SEED} {point.group} {sorted(point.factors.items())}").random()
    return "interpolation" if drawn < SHARE else "fit"


def divided(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Divide points into those to fit and those held out."""
    return {name: [point for point in points if kind(point) == name] for name in ("fit", *KINDS)}


def narrowed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the interval between its horizon and the next distance tried."""
    tried = {trial["distance"] for trial in row["trials"]}
    beyond = min((distance for distance in tried if distance > (row["horizon"] or 0)), default=None)
    return {**row, "lower": row["horizon"], "upper": beyond}


def rows_of(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the rows of searches; what the command line sets for all rows of one is a factor of theirs, too."""
    rows = []
    for folder in folders:
        record, words = read_json(folder / "horizon.json"), read_plan(folder)["words"]
        print(f"{folder}: {record['runs']:,} runs, {'finished' if record['finished'] else 'not finished'}")
        rows += [{**row, "words": [*words, *row["words"]]} for row in record["rows"]]
    return rows


@dataclass(frozen=True)
class Outcome:
    """Prediction for a held-out point.

    Attributes:
        meets: whether the interval of the horizon meets the 95 % prediction interval.
        by_censoring: whether it does so only by being censored: the middle of its interval lies outside the
            prediction, or, where an end is open, the predicted median lies outside the interval.
        score: logarithm of the predicted probability of the interval.
    """

    point: Point
    low: float
    median: float
    high: float
    meets: bool
    by_censoring: bool
    score: float


def outcome(law: Law, point: Point) -> Outcome:
    """Compare a law's prediction with a point."""
    found, low, high = law.predict(point), point.low or 0.0, point.high or math.inf
    assert found.low is not None
    assert found.high is not None
    meets = low <= found.high and high >= found.low
    middle = math.sqrt(low * high)
    fair = found.low <= middle <= found.high if 0 < middle < math.inf else low <= found.mean <= high
    return Outcome(point, found.low, found.mean, found.high, meets, meets and not fair, law.log_score(point))


class Model:
    """A law for all groups, or one for each.

    Args:
        points: to fit.
        own: whether each group has exponents of its own.
        constant: whether to leave the factors out.
    """

    def __init__(self, points: Sequence[Point], *, own: bool = False, constant: bool = False) -> None:
        self.constant, self.refused = constant, dict[str, str]()
        points = list(map(self._seen, points))
        groups = list(dict.fromkeys(point.group for point in points))
        bounded = bounded_groups(points)
        parts = [[group] for group in groups] if own else [[group for group in groups if group in bounded]]
        self.laws: dict[str, Law] = {}
        for part in parts:
            try:
                law = fit_law([point for point in points if point.group in part])
            except ValueError as error:
                self.refused |= dict.fromkeys(part, str(error))
            else:
                self.laws |= dict.fromkeys(part, law)
        self.refused |= {group: "censored" for group in groups if group not in self.laws and group not in self.refused}

    def _seen(self, point: Point) -> Point:
        return replace(point, factors={}) if self.constant else point

    def outcomes(self, points: Sequence[Point]) -> list[Outcome]:
        """Compare the predictions with points of groups that have a law."""
        return [
            replace(outcome(self.laws[point.group], self._seen(point)), point=point)
            for point in points
            if point.group in self.laws
        ]


def bootstrap(points: Sequence[Point], times: int = 400) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the exponents, by resampling the settings of each group.

    Points that differ in the learning rate alone share seeds and data, so that they are drawn together.
    """
    settings: dict[str, dict[tuple[float, ...], list[Point]]] = {}
    for point in points:
        key = tuple(value for name, value in point.factors.items() if name != RATE)
        settings.setdefault(point.group, {}).setdefault(key, []).append(point)
    draws, found = random.Random(SEED), dict[str, list[float]]()
    for _ in range(times):
        drawn = [
            point
            for own in settings.values()
            for each in draws.choices(list(own.values()), k=len(own))
            for point in each
        ]
        bounded = bounded_groups(drawn)
        try:
            law = fit_law([point for point in drawn if point.group in bounded], profile=False)
        except ValueError:
            continue
        for name, exponent in law.exponents.items():
            found.setdefault(name, []).append(exponent.mean)
    cuts = {name: statistics.quantiles(values, n=40) for name, values in found.items()}
    return {name: (cut[0], cut[-1]) for name, cut in cuts.items()}


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many predictions are met, and how sharp they are."""
    if not outcomes:
        return "no point"
    count, met = len(outcomes), sum(each.meets for each in outcomes)
    open_end = [each for each in outcomes if each.point.low is None or each.point.high is None]
    return (
        f"{met} of {count} inside ({met / count:.0%}), {sum(each.by_censoring for each in outcomes)} of them only by"
        f" being censored; {len(open_end)} have an open end;"
        f" high / low of predictions {statistics.median(each.high / each.low for each in outcomes):.1f} (median);"
        f" mean log score {statistics.fmean(each.score for each in outcomes):.3f}"
    )


def show(parts: Mapping[str, Sequence[Point]], models: Mapping[str, Model]) -> None:
    """Print exponents and held-out predictions."""
    print("; ".join(f"{name}: {len(points)} points" for name, points in parts.items()))
    shown: set[int] = set()
    for name, model in models.items():
        print(f"\n{name}")
        for group, law in model.laws.items():
            if id(law) in shown:
                continue
            shown.add(id(law))
            own = [each for each in model.laws if model.laws[each] is law]
            print(f"  {group if len(own) == 1 else 'all'}: {law.count} points, sigma {law.sigma:.2f}")
            for factor, found in law.exponents.items():
                print(f"    {factor}: {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})")
        for group, reason in model.refused.items():
            print(f"  {group}: no law: {reason}")
        for part in KINDS:
            print(f"  {part}: {summary(model.outcomes(parts[part]))}")


def records(parts: Mapping[str, Sequence[Point]], model: Model) -> list[dict[str, Any]]:
    """Return a row for each point."""
    found = []
    for part, points in parts.items():
        for point in points:
            facts: dict[str, Any] = {"group": point.group, **{name: f"{x:g}" for name, x in point.factors.items()}}
            facts |= {"low": point.low, "high": point.high, "part": part}
            for each in model.outcomes([point]):
                ends = {"predicted_low": each.low, "predicted": each.median, "predicted_high": each.high}
                facts |= {name: f"{value:.1f}" for name, value in ends.items()} | {"inside": each.meets}
            found.append(facts)
    return found


def draw(parts: Mapping[str, Sequence[Point]], model: Model, figure: Path) -> None:
    """Draw the intervals of held-out points against their predictions, one panel for each task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    outcomes = [(part, each) for part in KINDS for each in model.outcomes(parts[part])]
    tasks = list(dict.fromkeys(each.point.group.split()[0] for _, each in outcomes))
    cells = list(dict.fromkeys(each.point.group.split(maxsplit=1)[1] for _, each in outcomes))
    canvas = Figure(figsize=(4.6 * len(tasks), 4.4), layout="constrained")
    FigureCanvasAgg(canvas)
    smallest = min(each.low for _, each in outcomes)
    largest = max(each.high for _, each in outcomes)
    for axes, task in zip(canvas.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks, strict=True):
        for place, cell in enumerate(cells):
            own = [(part, each) for part, each in outcomes if each.point.group == f"{task} {cell}"]
            for part, each in own:
                low, high = each.point.low or smallest, each.point.high or largest
                style = {"color": f"C{place}", "linewidth": 1.4, "alpha": 0.75}
                axes.plot([each.median] * 2, [low, high], **style, linestyle="-" if part == KINDS[0] else "--")
            axes.plot([], [], color=f"C{place}", label=cell)
        ordered = sorted((each for _, each in outcomes if each.point.group.split()[0] == task), key=lambda e: e.median)
        medians = [each.median for each in ordered]
        axes.plot(medians, medians, color="black", linewidth=0.8)
        axes.fill_between(
            medians, [each.low for each in ordered], [each.high for each in ordered], color="0.88", zorder=0
        )
        axes.set(title=task, xlabel="predicted horizon (steps)")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
    canvas.axes[0].set_ylabel("interval of the horizon (steps)")
    canvas.axes[-1].legend(fontsize=8)
    figure.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(figure, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of searches")
    parser.add_argument("--narrow", action="store_true", help="intervals from the horizon to the next distance tried")
    parser.add_argument("--csv", type=Path, help="write the points")
    parser.add_argument("--figure", type=Path, help="draw the held-out points")
    args = parser.parse_args()
    rows = rows_of(args.folders)
    parts = divided(read_points(map(narrowed, rows) if args.narrow else rows))
    models = {
        "law": Model(parts["fit"]),
        "exponents of each cell and task": Model(parts["fit"], own=True),
        "no factors": Model(parts["fit"], constant=True),
    }
    show(parts, models)
    print("\n95 % intervals of the law's exponents, by resampling settings")
    for name, (low, high) in bootstrap(parts["fit"]).items():
        print(f"  {name}: {low:.2f} to {high:.2f}")
    if args.csv:
        table = records(parts, models["law"])
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        args.csv.write_text(csv_text(table, max(map(list, table), key=len)), encoding="utf-8")
    if args.figure:
        draw(parts, models["law"], args.figure)


if __name__ == "__main__":
    main()
