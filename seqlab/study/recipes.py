"""Recipes: published figures, the settings that should reproduce them, and verdicts; imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, final

import yaml  # type: ignore[import-untyped]  # PyYAML, which OmegaConf brings, has no types
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqlab.errors import UserError, one_line
from seqlab.plugins.hydra_source import read_yaml
from seqlab.sweeps.overrides import check_file_overrides

Verdict = Literal["better", "reached", "not reached", "not run", "no figure"]
_REQUIRED = {"title": str, "source": str, "metric": str, "mode": str, "words": list, "rows": list}
_OPTIONAL = {
    "tolerance": (float, int), "minutes": (float, int), "seeds": int, "needs": str, "theirs_is": str, "same": list,
    "ours": list, "quick": list, "beyond": bool,
}  # fmt: skip
_ROW = {"label": str, "words": list}
_BOUNDS = {"at_most": bool, "at_least": bool}
_OF_ROW = {"theirs": (float, int), **_BOUNDS}


@final
@dataclass(frozen=True)
class Row:
    """A published figure.

    ``theirs`` is ``None`` if the source has no number; ``bound`` is ``at most`` or ``at least`` if it gives a bound,
    empty for a value.
    """

    label: str
    words: tuple[str, ...]
    theirs: float | None
    bound: Literal["", "at most", "at least"] = ""

    def format_value(self) -> str:
        """Format the published value for a table."""
        if self.theirs is None:
            return "-"
        return {"": "", "at most": "≤ ", "at least": "≥ "}[self.bound] + f"{self.theirs:.4g}"


@final
@dataclass(frozen=True)
class Recipe:
    """A published table.

    Attributes:
        name: on the command line.
        title, source: description, and where it is published.
        metric: test metric that is compared.
        beyond: compare its mean over the further test lengths (``task.eval_lengths``) instead.
        mode: whether a larger (``max``) or smaller (``min``) value is better.
        words: overrides of all rows.
        rows: published figures.
        quick: overrides for a trial of seconds, whose results mean nothing.
        tolerance: accepted relative deviation from the published value.
        minutes: per run on two idle cores.
        seeds: default number of runs per row.
        needs: data that must be supplied; empty if none.
        theirs_is: definition of the published value.
        same: settings as published.
        ours: settings that differ, and why.
    """

    name: str
    title: str
    source: str
    metric: str
    mode: Literal["min", "max"]
    words: tuple[str, ...]
    rows: tuple[Row, ...]
    quick: tuple[str, ...] = ()
    tolerance: float = 0.1
    minutes: float | None = None
    seeds: int = 1
    needs: str = ""
    theirs_is: str = ""
    same: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    beyond: bool = False

    def value(self, record: Mapping[str, Any]) -> float:
        """Return the compared score of a run's ``results.json``.

        Raises:
            UserError: the run has no such score.
        """
        tests = (record["tables"].get("further_tests") or []) if self.beyond else [record["metrics"]["test"]]
        found = [test.get(self.metric) for test in tests]
        if not found or None in found:
            known = ", ".join(record["metrics"]["test"])
            where = " at further lengths (task.eval_lengths)" * self.beyond
            raise UserError(f"{self.name}: metric is {self.metric}{where}; the run has {known}")
        return fmean(map(float, found))

    def judge(self, row: Row, values: Sequence[float]) -> Verdict:
        r"""Compare the mean of some runs with a published figure.

        With :math:`δ` = ``tolerance`` times the published value: ``better`` by more than :math:`δ`, ``not reached`` if
        worse by more, else ``reached``. Values that keep to a published bound are ``reached``, too.
        """
        if not values:
            return "not run"
        if row.theirs is None:
            return "no figure"
        gain = (fmean(values) - row.theirs) * (1 if self.mode == "max" else -1)
        margin = self.tolerance * abs(row.theirs)
        bounded_above = {"at most": self.mode == "max", "at least": self.mode == "min"}.get(row.bound)
        if gain > margin:
            return "reached" if bounded_above is False else "better"
        if gain < -margin:
            return "reached" if bounded_above is True else "not reached"
        return "reached"


def names() -> list[str]:
    """Return the names of the included recipes."""
    return sorted(_included())


def _included() -> dict[str, Traversable]:
    folder = files("seqlab_conf") / "reproduce"
    return {
        f"{group.name}/{file.name.removesuffix('.yaml')}": file
        for group in folder.iterdir()
        if group.is_dir()
        for file in group.iterdir()
        if file.name.endswith(".yaml")
    }


def load(name: str) -> Recipe:
    """Read a recipe."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"{name}: there is no such file")
        recipe = _parse(path.stem, name, read_yaml(path, aliases=False))
        for words in (recipe.words, recipe.quick, *(row.words for row in recipe.rows)):
            check_file_overrides(words, name, "remove it, and pass it after the recipe if you want it")
        return recipe
    if name not in (found := _included()):
        raise UserError(f"{name}: there is no such recipe; there are {', '.join(sorted(found))}, or name a YAML file")
    return _parse(name, name, found[name].read_text("utf-8"))


def _parse(name: str, where: str, text: str) -> Recipe:
    try:
        plain = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid YAML: {one_line(error)[:200]}") from error
    fields = _check(plain, _REQUIRED, _OPTIONAL, where)
    if fields["mode"] not in ("min", "max"):
        raise UserError(f"{where}: mode must be min or max, got {fields['mode']}")
    rows = tuple(_row(row, f"{where}: row {number}") for number, row in enumerate(fields["rows"], start=1))
    if not rows:
        raise UserError(f"{where}: rows is empty")
    if len({row.label for row in rows}) < len(rows):
        raise UserError(f"{where}: two rows have the same label")
    if fields.get("seeds", 1) < 1:
        raise UserError(f"{where}: seeds must be >= 1, got {fields['seeds']}")
    lists: dict[str, Any] = {
        key: tuple(map(str, fields[key])) for key in ("words", "quick", "same", "ours") if key in fields
    }
    return Recipe(**{**fields, **lists, "name": name, "rows": rows})


def _row(plain: Any, where: str) -> Row:
    fields = _check(plain, _ROW, _OF_ROW, where)
    bounds = [bound for bound in _BOUNDS if fields.get(bound)]
    if len(bounds) > 1:
        raise UserError(f"{where}: at_most and at_least are both true")
    bound: Any = bounds[0].replace("_", " ") if bounds else ""
    theirs = None if (value := fields.get("theirs")) is None else float(value)
    return Row(fields["label"], tuple(map(str, fields["words"])), theirs, bound)


def _check(plain: Any, required: Mapping[str, Any], optional: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise UserError(f"{where} must be a mapping with {', '.join(required)}")
    if missing := [key for key in required if key not in plain]:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    types = {**required, **optional}
    for key, value in plain.items():
        if (kind := types.get(key)) is None:
            raise UserError(f"{where}: there is no key {key}; there are {', '.join(types)}")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{where}: {key} is {value!r}, of the wrong type")
    return plain
