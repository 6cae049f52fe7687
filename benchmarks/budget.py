"""Measuring in several runs, each of so many minutes: what is there already is not measured again."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

START = time.monotonic()
"""When this process began, its imports nearly left out."""


class Budget:
    """A folder of results, a line of JSON for each, and the minutes that a run may take.

    Args:
        folder: where the results are; it is made.
        name: of the file in it, without ``.jsonl``.
        minutes: after which nothing more is begun.
    """

    def __init__(self, folder: Path, name: str, minutes: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._end, self._took = folder / f"{name}.jsonl", START + 60 * minutes, list[float]()
        self.found: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            # A line that an end cut short is made again.
            for line in self._path.read_text("utf-8").splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue
                self.found[row["key"]] = row
            text = "".join(json.dumps(row) + "\n" for row in self.found.values())
            self._path.write_text(text, "utf-8")

    @property
    def left(self) -> float:
        """Seconds until nothing more is begun."""
        return self._end - time.monotonic()

    def each(self, work: Iterable[tuple[str, Callable[[], Mapping[str, Any]]]], margin: float = 10.0) -> bool:
        """Do in turn what is not there yet; an error is the result of what raised it, and stops nothing else.

        Args:
            work: a key and what makes its result.
            margin: seconds that must be left to begin; more where one of the last three took longer.

        Returns:
            Whether all of it is there.
        """
        for key, make in work:
            if key in self.found:
                continue
            if self.left < max([margin, *self._took[-3:]]):
                return False
            began = time.monotonic()
            try:
                result = dict(make())
            except Exception as error:  # measured on another's machine, where time is short
                result = {"error": f"{type(error).__name__}: {str(error).strip()[:300]}"}
            seconds = time.monotonic() - began
            self._took.append(seconds)
            self._keep({"key": key, **result, "took": round(seconds, 2)})
        return True

    def _keep(self, row: dict[str, Any]) -> None:
        self.found[row["key"]] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"  {row['key']}: {row.get('error') or row.get('said') or 'done'} ({row['took']:.1f} s)", flush=True)


def table(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as columns of text.

    Args:
        columns: a heading for each key.
        rows: what lacks a key has a dash there.
    """

    def word(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)

    body = [list(columns.values()), *([word(row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[k]) for line in body) for k in range(len(columns))]
    return "\n".join("  ".join(part.rjust(width) for part, width in zip(line, widths, strict=True)) for line in body)
