"""What should move a horizon, by its cause, and the command that tries it."""

from typing import TYPE_CHECKING, Any

from seqlab.contracts import Remedy
from seqlab.discovery.config import targets
from seqlab.study.horizon.search import Finding
from seqlab.sweeps.expansion import key_of
from seqlab.training.commands import command, quoted

if TYPE_CHECKING:
    from seqlab.study.cause import Cause
    from seqlab.study.horizon.conduct import Conductor
    from seqlab.study.horizon.rows import Row


def intervention(row: "Row", cause: "Cause", found: Finding, conductor: "Conductor") -> dict[str, str] | None:
    """Choose one thing that should move a row's horizon.

    A cell may know a remedy of its own (:meth:`seqlab.Cell.remedy`) where the gradient or saturation is the cause. Else
    a larger state helps a capacity that is too small, and longer training what is left.

    Returns:
        ``text`` and ``command``; ``None`` where there is nothing to move.
    """
    if cause == "none":
        return None
    if cause == "capacity" and row.hidden_size is not None:
        text, words = "twice the hidden size", [f"{row.sized_by}.hidden_size={2 * row.hidden_size}"]
    elif cause in ("gradient", "saturation") and (remedy := _own(row, cause, found)) is not None:
        text, words = remedy.text, [f"cell.{option}={value}" for option, value in remedy.options.items()]
    else:
        text, words = "four times the training", row.longer(4)
    return {"text": text, "command": _command(row, words, conductor)}


def _own(row: "Row", cause: str, found: Finding) -> Remedy | None:
    if row.sized_by != "cell":
        return None
    target: Any
    (target,) = targets("cell", str(row.config.cell.name))
    options = {str(key): value for key, value in row.config.cell.items() if key != "name"}
    remedy: Remedy | None = target.remedy(cause, found.upper or 2 * (found.horizon or 1), options)
    return remedy


def _command(row: "Row", words: list[str], conductor: "Conductor") -> str:
    """Give the search again for this row alone, with other words."""
    settings, typed = conductor.settings, conductor.words
    kept = [word for word in typed if word.startswith(("hydra/", "hydra.sweeper.")) and ".only=" not in word]
    changed = {key_of(word) for word in words}
    if settings.rows or settings.tasks:
        own = [word for word in typed if not word.startswith(("hydra/", "hydra."))]
        kept.append(f"hydra.sweeper.only=[{quoted(row.name)}]")
    else:
        own = list(row.asked)
    own = [word for word in own if key_of(word) not in changed]
    return command("-m", *own, *words, *kept)
