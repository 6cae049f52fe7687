"""Measurements over several invocations, each with a time limit; finished ones are not repeated."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

START = time.monotonic()
"""Start of this process, most imports excluded."""


class Budget:
    """Results as JSON lines in a folder, with a time limit.

    Args:
        folder: of the results; created if missing.
        name: of the file, without ``.jsonl``.
        minutes: after which no measurement starts.
    """

    def __init__(self, folder: Path, name: str, minutes: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._end, self._took = folder / f"{name}.jsonl", START + 60 * minutes, list[float]()
        self.found: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            # A truncated line is measured again.
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
        """Seconds until no measurement starts."""
        return self._end - time.monotonic()

    def each(self, work: Iterable[tuple[str, Callable[[], Mapping[str, Any]]]], margin: float = 10.0) -> bool:
        """Run the missing measurements in order; an exception is recorded as the result.

        Args:
            work: keys and measurements.
            margin: seconds that must be left to start one; at least the longest of the last three.

        Returns:
            Whether all results exist.
        """
        for key, make in work:
            if key in self.found:
                continue
            if self.left < max([margin, *self._took[-3:]]):
                return False
            began = time.monotonic()
            try:
                result = dict(make())
            except Exception as error:  # machine time is limited: continue with the next
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
    """Return a text table.

    Args:
        columns: heading of each key.
        rows: values by key; a missing one is shown as a dash.
    """

    def word(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)

    body = [list(columns.values()), *([word(row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[k]) for line in body) for k in range(len(columns))]
    return "\n".join("  ".join(part.rjust(width) for part, width in zip(line, widths, strict=True)) for line in body)
