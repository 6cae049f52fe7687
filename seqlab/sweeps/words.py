"""Words that a file brings: a sweep's plan, or a recipe. They choose what a sweep computes, and run nothing else."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from seqlab.bounded import printable
from seqlab.errors import UserError

LAUNCHER = (
    "n_jobs", "parallel", "timeout_min", "cpus_per_task", "gpus_per_node", "gpus_per_task", "tasks_per_node",
    "mem_gb", "mem_per_cpu", "mem_per_gpu", "mem", "nodes", "name", "partition", "qos", "account", "constraint",
    "gres", "exclude", "array_size", "array_parallelism", "max_num_timeout", "signal_delay_s", "prefer", "batch_size",
    "verbose",
)  # fmt: skip
"""What of a launcher says how much, and not what is run: ``setup`` is a shell's, ``env_set`` an environment's."""
_SWEEPER = r"hydra\.sweeper(\.(?!(hydra|custom_search_space|storage)\b)[a-z]\w*)+"
"""Of a sweeper, what is neither imported nor written somewhere: Optuna imports the one and opens the other."""
_OF_HYDRA = re.compile(rf"hydra/(launcher|sweeper(/[a-z]\w*)*)|hydra\.launcher\.({'|'.join(LAUNCHER)})|{_SWEEPER}")
_PROCESSES = ("n_jobs", "parallel")
_MOST_PROCESSES = 1024
_HIDDEN = re.compile(r"hydra|_target_|\$\{", re.IGNORECASE)


def check_words(words: Sequence[str], where: str, way_out: str) -> None:
    """Refuse words of a file that are no settings of a run: flags, and keys by which Hydra imports or runs something.

    Args:
        words: overrides.
        where: the file, for the message.
        way_out: what the user can do about a word of their own.

    Raises:
        UserError: there is one.
    """
    for word in words:
        if fault := _fault(word):
            raise UserError(f"{where} has the word {printable(word)[:120]!r}, {fault}; {way_out}")


def _fault(word: str) -> str | None:
    if printable(word) != word or "\n" in word or "\r" in word:
        return "which has control characters"
    if word.startswith("-") or not word:
        return "which is no setting"
    try:
        (parsed,) = OverridesParser.create().parse_overrides([word])
    except (HydraException, ValueError, RecursionError):
        return "which is not understood"
    key = parsed.key_or_group + (f"@{parsed.package}" if parsed.package else "")
    if "hydra" not in key.lower() and not any(part.startswith("_") for part in re.split(r"[./@:]", key)):
        return None
    if _OF_HYDRA.fullmatch(key) is None:
        return "by which Hydra could run code"
    if _HIDDEN.search(word.partition("=")[2]):
        return "whose value could make Hydra run code"
    return launcher_fault(key.rpartition(".")[2], parsed.value()) if key.startswith("hydra.launcher.") else None


def split_at_blanks(text: str) -> list[str]:
    """Split overrides that stand in one text, at blanks outside quotes and brackets.

    Args:
        text: such as ``cell=rnn task.name='a b'``.
    """
    return re.findall(r"""(?:\\.|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|\S)+""", text)


def launcher_fault(key: str, value: object) -> str | None:
    """Say what is wrong with a value that a file sets for a launcher; ``None`` where it says how much, and not what.

    Args:
        key: of the launcher's node.
        value: of it.
    """
    if key not in LAUNCHER:
        return "by which a launcher could run code"
    if isinstance(value, str) and (printable(value) != value or "\n" in value or "\r" in value):
        return "in which a line of a batch script could end"
    if key in _PROCESSES and isinstance(value, int | float) and value > _MOST_PROCESSES:
        return f"which is more than {_MOST_PROCESSES:,} processes at a time"
    return None
