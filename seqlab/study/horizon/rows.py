"""The rows of a search, and the words of their runs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import product
from typing import Any, final

from omegaconf import DictConfig

from seqlab.config.compose import compose_all
from seqlab.contracts import Task, UserError
from seqlab.contracts.task import task_defaults
from seqlab.plugins.config import targets
from seqlab.plugins.registry import find, plugins
from seqlab.study.horizon.search import Batch
from seqlab.study.horizon.settings import Settings
from seqlab.sweeps.overrides import choices, key_of

_OURS = {
    "task.sequence_length": "start and max_distance",
    "optimizer.lr": "learning_rates",
    "seed": "seeds and first_seed",
    "trainer.stop_when_solved": "stop_when_solved",
}
"""Keys that the search sets in every run, and the keys of ``hydra.sweeper`` that say how."""


@final
@dataclass(frozen=True)
class Row:
    """One line of the table that a search ends with.

    Attributes:
        label: of what is measured.
        task: label of the task.
        words: what makes it this row.
        task_words: what chooses its task.
        common: words that all rows have.
        config: composed for the first distance.
        added: words that the search puts into each of its runs.
        sized: the word that gives it another hidden size, if it is matched.
    """

    label: str
    task: str
    words: tuple[str, ...]
    task_words: tuple[str, ...]
    common: tuple[str, ...]
    config: DictConfig
    added: tuple[str, ...] = ()
    sized: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The label that ``hydra.sweeper.only`` takes."""
        return f"{self.label}/{self.task}"

    @property
    def sized_by(self) -> str:
        """The group whose ``hidden_size`` sets how large the model is: ``cell`` or ``model``."""
        (target,) = targets("model", self.config.model.name)
        uses_cell: bool = target.uses_cell  # type: ignore[attr-defined]  # a model has it
        return "cell" if uses_cell else "model"

    @property
    def hidden_size(self) -> int | None:
        """The hidden size of its runs; ``None`` for a model without one."""
        if self.sized:
            return int(self.sized[0].partition("=")[2])
        size = self.config[self.sized_by].get("hidden_size")
        return None if size is None else int(size)

    @property
    def asked(self) -> tuple[str, ...]:
        """The words that were asked for; behind others of the same key, those of the command line win."""
        return (*self.task_words, *self.words, *self.sized, *self.common)

    def longer(self, times: int) -> list[str]:
        """Give the words that train it longer."""
        trainer, words = self.config.trainer, list[str]()
        for key in ("max_epochs", "max_steps"):
            if trainer[key] is not None and trainer[key] > 0:
                words.append(f"trainer.{key}={times * trainer[key]}")
        return words

    def run(self, batch: Batch, seed: int) -> list[str]:
        """Give the words of one run."""
        words = [*self.asked, *self.added]
        words += [f"task.sequence_length={batch.distance}", f"optimizer.lr={batch.rate}", f"seed={seed}"]
        if batch.budget > 1:
            words += self.longer(batch.budget)
        return words


def rows_of(typed: Sequence[str], settings: Settings) -> list[Row]:
    """Multiply a search out into its rows, and compose each for the first distance.

    Args:
        typed: what was typed behind ``-m``, without what is Hydra's.
        settings: of the search.

    Raises:
        UserError: the search cannot be made with these words.
        hydra.errors.HydraException: a row cannot be composed.
    """
    fixed, task_choices, row_choices = _sorted_out([*(f"{k}={v}" for k, v in settings.params.items()), *typed])
    tasks = list(_variants(settings.tasks, task_choices))
    variants = list(_variants(settings.rows, row_choices))
    made = [(row, task) for task in tasks for row in variants]
    common = tuple(word for word in fixed if not _of_task(key_of(word)))
    fixed_task = tuple(word for word in fixed if _of_task(key_of(word)))
    words = [[*task[1], *row[1], *fixed, f"task.sequence_length={settings.start}"] for row, task in made]
    rows = [
        Row(
            row[0] or _model_name(config),
            task[0] or str(config.task.name),
            row[1],
            (*task[1], *fixed_task),
            common,
            config,
        )
        for (row, task), config in zip(made, compose_all(words), strict=True)
    ]
    rows = [replace(row, added=tuple(_added(row, settings))) for row in _told_apart(rows)]
    for row in rows:
        _check_task(row)
    return _chosen(rows, settings.only)


def _sorted_out(typed: Sequence[str]) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Part words that are fixed from those that are multiplied out, for tasks and for rows."""
    fixed: list[str] = []
    of_tasks: list[list[str]] = []
    of_rows: list[list[str]] = []
    for word in typed:
        if (key := key_of(word)) in _OURS:
            raise UserError(f"{word}: the search chooses it; set {_of_sweeper(_OURS[key])}")
    for words in choices(typed):
        if len(words) == 1:
            fixed += words
        elif _of_task(key_of(words[0])):
            of_tasks.append(words)
        else:
            of_rows.append(words)
    return fixed, of_tasks, of_rows


def _of_sweeper(keys: str) -> str:
    return " and ".join(f"hydra.sweeper.{key}" for key in keys.split(" and "))


def _of_task(key: str) -> bool:
    return key.partition(".")[0] == "task"


def _brief(word: str) -> str:
    """Return an override without the groups before its last name: ``depth=2`` of ``model.depth=2``."""
    key, equals, value = word.partition("=")
    return f"{key.lstrip('+~').rpartition('.')[2]}{equals}{value}"


def _variants(
    named: Mapping[str, tuple[str, ...]], multiplied: Sequence[Sequence[str]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give label and words of each; the label is empty where the choice of a plugin will give it."""
    for label, words in (named or {"": ()}).items():
        for chosen in product(*multiplied):
            options = [_brief(word) for word in chosen] if label else []
            yield " ".join([label, *options]), (*words, *chosen)


def _model_name(config: DictConfig) -> str:
    return str(config[Row("", "", (), (), (), config).sized_by].name)


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """Add to labels that occur twice the words that make the difference."""
    counts = Counter(row.name for row in rows)
    found: list[Row] = []
    for row in rows:
        same = [other for other in rows if other.name == row.name]
        if counts[row.name] > 1:
            own = [word for word in row.words if any(word not in other.words for other in same)]
            task = [word for word in row.task_words if any(word not in other.task_words for other in same)]
            label = " ".join([row.label, *map(_brief, own)])
            row = replace(row, label=label, task=" ".join([row.task, *map(_brief, task)]))
        found.append(row)
    return found


def _added(row: Row, settings: Settings) -> Iterator[str]:
    """Give what the search sets in every run, unless the command line or an experiment did."""
    yield f"trainer.stop_when_solved={settings.stop_when_solved}"
    typed = {key_of(word) for word in row.asked}
    if "trainer.early_stopping" not in typed:
        yield "trainer.early_stopping=null"  # the budget is what ends a run that does not solve
    if row.config.trainer.progress == "auto":
        yield "trainer.progress=false"
    there = [name for name in settings.callbacks if name in plugins("callback")]
    if there and not row.config.get("callbacks") and "callbacks" not in typed:
        yield f"callbacks=[{','.join(there)}]"
        # Nobody looks at a picture of each of hundreds of runs, which take longer to draw than to train.
        yield from (f"callbacks.{name}.picture=false" for name in there if _draws(name))


def _draws(callback: str) -> bool:
    (target,) = targets("callback", callback)
    return "picture" in signature(target).parameters


def _check_task(row: Row) -> None:
    name = str(row.config.task.name)
    task: Any
    (task,) = targets("task", name)
    if task_defaults(task).sequence_length_means != "distance":
        others = [other for other in plugins("task") if _is_distance(other)]
        raise UserError(f"task={name} has no distance to search over; these have: {', '.join(others)}")


def _is_distance(name: str) -> bool:
    try:
        task: type[Task] = find("task", name).load()
    except UserError:
        return False
    return task_defaults(task).sequence_length_means == "distance"


def _chosen(rows: list[Row], only: Sequence[str]) -> list[Row]:
    for label in only:
        if label not in {name for row in rows for name in (row.label, row.name)}:
            have = ", ".join(row.name for row in rows)
            raise UserError(f"hydra.sweeper.only has {label}; the rows of this search are {have}")
    return [row for row in rows if not only or row.label in only or row.name in only]
