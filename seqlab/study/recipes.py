"""Published figures, the settings that should reach them, and what became of them here; imports no torch."""

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

Verdict = Literal["better", "reached", "not reached", "not run"]
_NEEDED = {"title": str, "source": str, "metric": str, "mode": str, "words": list, "rows": list}
_MORE = {
    "tolerance": (float, int), "minutes": (float, int), "seeds": int, "needs": str, "theirs_is": str, "same": list,
    "ours": list, "quick": list,
}  # fmt: skip
_ROW = {"label": str, "words": list, "theirs": (float, int)}


@final
@dataclass(frozen=True)
class Row:
    """One published figure.

    Attributes:
        label: what it is of.
        words: the overrides that make it.
        theirs: the figure.
        bound: whether the source says that it is no more (``at most``) or no less than that; empty for a figure.
    """

    label: str
    words: tuple[str, ...]
    theirs: float
    bound: Literal["", "at most", "at least"] = ""

    def shown(self) -> str:
        """Write the figure as a table has it."""
        return {"": "", "at most": "≤ ", "at least": "≥ "}[self.bound] + f"{self.theirs:.4g}"


@final
@dataclass(frozen=True)
class Recipe:
    """A table of a paper.

    Attributes:
        name: what one types.
        title, source: what it is, and where it stands.
        metric: the test metric that is compared.
        mode: whether a larger (``max``) or a smaller (``min``) one is better.
        words: the overrides that all rows share.
        rows: the figures.
        quick: overrides for a try of seconds, whose figures mean nothing.
        tolerance: share of their figure that ours may be off.
        minutes: that a run takes on two quiet cores.
        seeds: runs of each row, unless asked otherwise.
        needs: data that it needs; empty if it needs none.
        theirs_is: what their figure is, exactly.
        same: which settings are theirs.
        ours: which are not, and why.
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

    def judge(self, row: Row, values: Sequence[float]) -> Verdict:
        r"""Compare the mean of our runs with a figure.

        With :math:`δ` = ``tolerance`` times their figure: ``better`` where ours is better by more than :math:`δ`,
        ``not reached`` where it is worse by more, and ``reached`` between. Where the source gives a bound, ``reached``
        is whatever keeps to it within :math:`δ`, and beyond it stands what the direction says.
        """
        if not values:
            return "not run"
        gain = (fmean(values) - row.theirs) * (1 if self.mode == "max" else -1)
        margin = self.tolerance * abs(row.theirs)
        upward = {"at most": self.mode == "max", "at least": self.mode == "min"}.get(row.bound)
        if gain > margin:
            return "reached" if upward is False else "better"
        if gain < -margin:
            return "reached" if upward is True else "not reached"
        return "reached"


def names() -> list[str]:
    """Name the recipes that come with seqlab."""
    return sorted(_found())


def _found() -> dict[str, Traversable]:
    folder = files("seqlab_conf") / "reproduce"
    return {
        f"{group.name}/{file.name.removesuffix('.yaml')}": file
        for group in folder.iterdir()
        if group.is_dir()
        for file in group.iterdir()
        if file.name.endswith(".yaml")
    }


def load(name: str) -> Recipe:
    """Read a recipe.

    Args:
        name: of one that comes with seqlab, or the path of a YAML file.

    Raises:
        UserError: there is none, or it is no recipe.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"{name}: there is no such file")
        recipe = _parse(path.stem, name, read_yaml(path, aliases=False))
        for words in (recipe.words, recipe.quick, *(row.words for row in recipe.rows)):
            check_file_overrides(words, name, "take it out, and type it behind the recipe if you want it")
        return recipe
    if name not in (found := _found()):
        raise UserError(
            f"{name}: there is no such recipe; there are {', '.join(sorted(found))}, or a YAML file of yours"
        )
    return _parse(name, name, found[name].read_text("utf-8"))


def _parse(name: str, where: str, text: str) -> Recipe:
    try:
        plain = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid YAML: {one_line(error)[:200]}") from error
    fields = _checked(plain, _NEEDED, _MORE, where)
    if fields["mode"] not in ("min", "max"):
        raise UserError(f"{where}: mode is {fields['mode']}; it must be min or max")
    rows = tuple(_row(row, f"{where}: row {number}") for number, row in enumerate(fields["rows"], start=1))
    if not rows:
        raise UserError(f"{where}: rows is empty")
    if len({row.label for row in rows}) < len(rows):
        raise UserError(f"{where}: two rows have the same label")
    lists: dict[str, Any] = {
        key: tuple(map(str, fields[key])) for key in ("words", "quick", "same", "ours") if key in fields
    }
    if fields.get("seeds", 1) < 1:
        raise UserError(f"{where}: seeds is {fields['seeds']}; it must be at least 1")
    return Recipe(**{**fields, **lists, "name": name, "rows": rows})


def _row(plain: Any, where: str) -> Row:
    fields = _checked(plain, _ROW, {"at_most": bool, "at_least": bool}, where)
    bounds = [bound for bound in ("at_most", "at_least") if fields.get(bound)]
    if len(bounds) > 1:
        raise UserError(f"{where}: at_most and at_least are both true")
    bound: Any = bounds[0].replace("_", " ") if bounds else ""
    return Row(fields["label"], tuple(map(str, fields["words"])), float(fields["theirs"]), bound)


def _checked(plain: Any, needed: Mapping[str, Any], more: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise UserError(f"{where} is no mapping; it must have {', '.join(needed)}")
    if missing := [key for key in needed if key not in plain]:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    for key, value in plain.items():
        kind = {**needed, **more}.get(key)
        if kind is None:
            raise UserError(f"{where}: there is no key {key}; there are {', '.join([*needed, *more])}")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{where}: {key} is {value!r}, of the wrong type")
    return plain
