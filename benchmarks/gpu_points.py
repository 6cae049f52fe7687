"""Points that ``gpu_campaign.py`` measures, in order of priority."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

DTYPES = {
    "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "tf32": torch.float32,
}  # fmt: skip
"""``float32`` is IEEE; ``tf32`` is float32 on tensor cores."""
EPILOGUES = {"lstm": "Lstm", "gru": "Gru", "rnn": "RnnTanh", "mingru": "linear"}


class Point(NamedTuple):
    """A layer and its input; input size equals hidden size."""

    cell: str
    batch: int
    time: int
    hidden: int
    dtype: str = "bfloat16"
    directions: int = 1
    ragged: bool = False
    save: str = "gates"

    @property
    def key(self) -> str:
        """Unique name."""
        form = ("both" if self.directions == 2 else "one") + ("-ragged" if self.ragged else "")
        word = f"{self.cell}-B{self.batch}-T{self.time}-H{self.hidden}-{self.dtype}-{form}"
        return word if self.save == "gates" else f"{word}-{self.save}"

    @property
    def layer(self) -> dict[str, object]:
        """Description of the point in ``record.json``."""
        return {
            "epilogue": EPILOGUES[self.cell], "dtype": self.dtype, "directions": self.directions, "ragged": self.ragged,
            "batch": self.batch, "time": self.time, "hidden": self.hidden,
        }  # fmt: skip


def declared() -> list[Point]:
    """Return the points: at most 120, each within about 30 GB."""
    points = list(dict.fromkeys(_declared()))
    assert len(points) <= 120
    return points


def _declared() -> Iterator[Point]:
    # The project's targets.
    for batch in (64, 512, 2048):
        yield Point("lstm", batch, 512, 128)
    yield Point("lstm", 512, 512, 128, directions=2)
    yield Point("lstm", 512, 512, 128, ragged=True)
    yield Point("mingru", 512, 1024, 512)
    yield Point("mingru", 16, 16384, 128)
    yield Point("gru", 512, 512, 128)
    yield Point("gru", 512, 512, 128, directions=2)
    yield Point("gru", 512, 512, 128, ragged=True)
    yield Point("rnn", 512, 512, 128)
    # Each variant and dtype, for `auto`, which looks these up first.
    for dtype in ("bfloat16", "float16", "tf32", "float32"):
        for cell in ("lstm", "gru", "rnn"):
            for directions in (1, 2):
                for ragged in (False, True):
                    yield Point(cell, 256, 256, 64, dtype, directions, ragged)
    for dtype in ("bfloat16", "float32"):
        for directions in (1, 2):
            for ragged in (False, True):
                yield Point("mingru", 256, 1024, 256, dtype, directions, ragged)
    # Scaling with batch, time and hidden size.
    for cell in ("lstm", "gru"):
        for batch in (1, 16, 4096):
            yield Point(cell, batch, 512, 128)
        for time in (32, 4096):
            yield Point(cell, 64, time, 128)
        for hidden in (32, 100):
            yield Point(cell, 256, 256, hidden)
        yield Point(cell, 64, 4096, 64, ragged=True)
        yield Point(cell, 512, 512, 128, save="recompute")
        yield Point(cell, 512, 512, 128, "float16")
        yield Point(cell, 512, 512, 128, directions=2, ragged=True)
    for batch, time, hidden in ((1, 65536, 64), (64, 4096, 256), (4096, 128, 512)):
        yield Point("mingru", batch, time, hidden)
        yield Point("mingru", batch, time, hidden, "float32")
    yield Point("mingru", 64, 4096, 256, ragged=True)
    yield Point("rnn", 2048, 512, 128)
    yield Point("rnn", 512, 512, 128, ragged=True)


def tiny() -> list[Point]:
    """Return points for Triton's interpreter on a CPU, which lacks bfloat16 products."""
    return [
        Point("lstm", 3, 3, 4, "float16"),
        Point("gru", 2, 3, 4, "float32", 2, True),
        Point("lstm", 2, 2, 4, "tf32", save="recompute"),
        Point("mingru", 2, 5, 3, "float32"),
    ]
