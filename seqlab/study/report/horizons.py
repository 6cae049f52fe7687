"""Horizons of a report: as a search found them, or as far as the distances that were run say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seqlab.study.report.blocks import Code, Field, Section, Shown, Table, Text, figure_text
from seqlab.study.report.figures import by_label
from seqlab.study.report.horizon_figure import reaches
from seqlab.study.report.points import Point, reach
from seqlab.study.report.settings import show
from seqlab.training.runfolder import relative


def searched(task: str, horizons: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Take the rows of one task out of what the searches found, each with its search's folder and figures."""
    found = []
    for folder, horizon in horizons:
        for row in horizon["rows"]:
            if row.get("task") == task:
                trials = [trial for trial in row.get("trials") or () if isinstance(trial, Mapping)]
                tried = [trial["distance"] for trial in trials if isinstance(trial.get("distance"), int)]
                ends = {name: row.get(name) for name in ("horizon", "lower", "upper")}
                known = [value for value in ends.values() if value]
                smallest, largest = min([*tried, *known], default=1), max([*tried, *known], default=1)
                span = {"smallest": smallest, "largest": largest}
                found.append({**row, **ends, "folder": folder, "search": horizon, **span})
    return found


def measured(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Say how far each label gets among the distances that were run."""
    rows = []
    for label, group in by_label(points).items():
        far = reach(group)
        rows.append({"label": label, **asdict(far)})
    return rows


def interval(row: Mapping[str, Any]) -> str:
    """Write a horizon's interval: from the distance that all seeds solve to the one that none solves.

    Args:
        row: ``lower`` and ``upper``; ``None`` where no distance that was tried is such an end.
    """
    low, high = row["lower"], row["upper"]
    if low is None and high is None:
        return "not bounded"
    if low is None:
        return f"< {high:,}"
    return f">= {low:,} (upper bound not reached)" if high is None else f"{low:,} to {high:,}"


def horizon_section(name: str, rows: Sequence[Mapping[str, Any]], *, is_search: bool) -> Section:
    """Put horizons into a table, a figure, and where a search names causes, the interventions with their commands."""
    section = Section("How far", 3)
    if not is_search:
        text = (
            "From the distances that were run: the horizon is the largest at which at least 2/3 of the seeds solve the"
            " task on the validation split, at the learning rate that validation chose there."
        )
        section.blocks += [Text(text), _measured_table(rows)]
    else:
        section.blocks += [Text(_effort(rows)), _searched_table(rows)]
    title = "Horizons of the search" if is_search else "Horizons among the distances that were run"
    section.blocks.append(Shown(reaches(f"{name}_horizon", rows, title)))
    if is_search:
        section.blocks += _causes(rows)
    return section


def _measured_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    fields = tuple((str(row["label"]), figure_text(row["horizon"]) or "none", interval(row)) for row in rows)
    return Table(("", "horizon", "all seeds solve, none solves"), fields)


def _effort(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what the searches cost, and whether they are finished."""
    said = []
    for folder in dict.fromkeys(row["folder"] for row in rows):
        search = next(row["search"] for row in rows if row["folder"] == folder)
        runs, grid = search.get("runs"), search.get("grid_runs")
        part = f"{relative(folder)}: {figure_text(runs)} runs"
        if isinstance(runs, int) and isinstance(grid, int) and grid:
            part += f", where the full grid at the same resolution has {grid:,} ({runs / grid:.0%})"
        said.append(part + ("" if search.get("finished", True) else "; the search is not finished"))
    return "; ".join(said) + "."


def _searched_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    head = ("", "horizon", "interval", "learning rate", "parameters", "hidden size", "state size", "limit")
    fields: list[tuple[Field, ...]] = []
    for row in rows:
        limited = {"true": "budget-limited", "false": "not the budget"}
        limit = limited.get(show(row.get("budget_limited")), "budget not checked")
        sizes = (figure_text(row.get(key)) for key in ("learning_rate", "parameters", "hidden_size", "state_size"))
        cells = (str(row["label"]), figure_text(row.get("horizon")) or "none", interval(row), *sizes, limit)
        fields.append(cells)
    return Table(head, tuple(fields))


def _causes(rows: Sequence[Mapping[str, Any]]) -> list[Text | Code]:
    blocks: list[Text | Code] = []
    for row in rows:
        because = row.get("because") or "no reason is given"
        cause = row.get("cause") or "unknown"
        said = "no limit was found" if cause == "none" else f"the likely cause of the limit is {cause}"
        blocks.append(Text(f"{row['label']}: {said}; {because}"))
        intervention = row.get("intervention")
        if isinstance(intervention, Mapping) and intervention.get("command"):
            blocks.append(Code(f"To try: {intervention.get('text')}", (str(intervention["command"]),)))
    return blocks
