"""Formatting of metrics and paths."""

from pathlib import Path


def format_metric(value: float, sign: str = "") -> str:
    """Return a metric with four decimals, or with three digits where four decimals would show zero.

    Args:
        value: the metric.
        sign: ``+`` shows the sign of a positive one, too.
    """
    kind = ".4f" if value == 0 or not abs(value) < 0.001 else ".2e"
    return f"{value:{sign}{kind}}"


def relative_path(path: Path) -> str:
    """Return a path relative to the working folder, as one would type it there."""
    try:
        shown = str(path.relative_to(Path.cwd()))
    except ValueError:
        shown = str(path)
    return f"./{shown}" if shown.startswith("-") else shown  # not an option of a command
