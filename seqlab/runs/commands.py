"""Commands as they are printed: what a shell and Hydra read back as it was meant, whatever a folder is called."""

import re
import shlex
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_WORDS = ("null", "true", "false", "nan", "inf")


def shell_command(*arguments: str) -> str:
    """Write a command of seqlab for a POSIX shell."""
    return shlex.join(["python", "-m", "seqlab", *arguments])


def hydra_override(key: str, value: str) -> str:
    r"""Write an override whose value Hydra reads as this text, quoted where it would read something else.

    In Hydra's quotes a backslash is one unless it stands before a quote, and OmegaConf takes ``\${`` for ``${``.
    """
    return f"{key}={quote_for_hydra(value)}"


def quote_for_hydra(value: str) -> str:
    """Quote a text for Hydra, where it would read something else; see :func:`setting`."""
    if _PLAIN.fullmatch(value) and not _is_other(value):
        return value
    escaped = value.replace("${", r"\${")
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), escaped)
    return f'"{escaped}"'


def _is_other(value: str) -> bool:
    """Whether Hydra reads a number, a truth value or nothing."""
    try:
        float(value)
    except ValueError:
        return value.lower() in _WORDS
    return True


def text_arguments(given: Sequence[str]) -> list[str]:
    """Write texts as the last arguments of a command, behind ``--`` where one begins with a dash."""
    return ["--", *given] if any(text.startswith("-") for text in given) else list(given)
