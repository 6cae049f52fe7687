"""Commands to print, quoted for a POSIX shell and for Hydra."""

import re
import shlex
from collections.abc import Sequence

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
