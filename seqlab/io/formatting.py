"""Formatting of metrics and paths for people."""

from pathlib import Path


def format_metric(value: float, sign: str = "") -> str:
    """Write a metric with four decimals, or with three digits where four decimals would hide it.

    Args:
        value: the metric.
        sign: ``+`` writes the sign of a positive one, too.
    """
    kind = ".4f" if value == 0 or not abs(value) < 0.001 else ".2e"
    return f"{value:{sign}{kind}}"


def relative_path(path: Path) -> str:
    """Show a path as a person in the working folder would type it."""
    try:
        shown = str(path.relative_to(Path.cwd()))
    except ValueError:
        shown = str(path)
    return f"./{shown}" if shown.startswith("-") else shown  # no option of a command
