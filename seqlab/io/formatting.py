"""Formatting for people: metrics, paths, and commands to paste."""

import re
import shlex
from collections.abc import Sequence
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


_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_LITERALS = ("null", "true", "false", "nan", "inf")


def shell_command(*arguments: str) -> str:
    """Return a seqlab command, quoted for a POSIX shell."""
    return shlex.join(["python", "-m", "seqlab", *arguments])


def hydra_override(key: str, value: str) -> str:
    """Return an override whose value Hydra reads as this text."""
    return f"{key}={quote_for_hydra(value)}"


def quote_for_hydra(value: str) -> str:
    r"""Quote a text where Hydra would read something else.

    Within Hydra's quotes a backslash escapes nothing but a quote, and OmegaConf reads ``\${`` as ``${``.
    """
    if _PLAIN.fullmatch(value) and not _is_literal(value):
        return value
    escaped = value.replace("${", r"\${")
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), escaped)
    return f'"{escaped}"'


def _is_literal(value: str) -> bool:
    """Return whether Hydra reads a number, a boolean or null."""
    try:
        float(value)
    except ValueError:
        return value.lower() in _LITERALS
    return True


def text_arguments(texts: Sequence[str]) -> list[str]:
    """Return texts as the last arguments of a command, after ``--`` if one starts with a dash."""
    return ["--", *texts] if any(text.startswith("-") for text in texts) else list(texts)
