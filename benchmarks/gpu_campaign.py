"""Correctness and speed of the GPU kernels, against cuDNN and the device's peak rates.

Starts nothing after ``--minutes``; the same command resumes. Needs torch, Triton and the source tree of seqlab only: no
Hydra and no installation.

    PYTHONPATH=.:plugins python benchmarks/gpu_campaign.py --to FOLDER

1. Compile the kernels, in several processes.
2. Measure the peak rates: bytes per second of a large copy (read and written), FLOP per second of matrix products per
   dtype.
3. Compare each kernel with the loop in float64.
4. Measure the points of ``gpu_points.py`` in order: training steps (forward, gradients of the input and all
   parameters), medians of interleaved runs. ``vendor`` is ``kernel=vendor``, the alternative of ``auto``, in TF32 for
   float32 as is cuDNN's default; ``padded`` and ``packed`` are torch's modules on cuDNN.

A summary table comes last. ``kernel=auto`` reads ``record.json`` from ``plugins/seqlab_cells/gpu/records/``, under
any name. ``--dry`` runs tiny sizes on a CPU in Triton's interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

if "--dry" in sys.argv:  # read by Triton on import
    os.environ |= {"TRITON_INTERPRET": "1", "SEQLAB_TRITON_ON_CPU": "1", "SEQLAB_COMPILE": "never"}

import torch
from budget import Budget, table
from gpu_check import check
from gpu_measure import CELLS, ceilings, drawn, measure, ours, precision, tiles
from gpu_points import DTYPES, Point, declared, tiny

from seqlab_cells.gpu import linear

COLUMNS = {
    "key": "point", "ms": "ms", "us_a_step": "us/step", "over_vendor": "vendor/", "over_padded": "padded/",
    "over_packed": "packed/", "bandwidth": "of copy", "flops": "of FLOP", "scan": "scan of copy", "mib": "MiB",
}  # fmt: skip
COMPILED = (Point("lstm", 512, 512, 128), Point("gru", 512, 512, 128), Point("gru", 512, 512, 128, ragged=True))
"""Points at which the compiled scan is measured, too, last because it compiles slowly."""

TILES = ((16, 4), (16, 8), (16, 16), (32, 8), (32, 16))
"""Rows and warps tried at the points after those; each is compiled."""
TILED = (Point("lstm", 512, 512, 128), Point("gru", 512, 512, 128), Point("lstm", 256, 256, 64))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--to", type=Path, default=Path("runs/gpu_campaign"), help="folder of the results (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="start nothing after this time (%(default)s)")
    parser.add_argument("--workers", type=int, default=min(14, os.cpu_count() or 1), help="compiler processes")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on a CPU, in the interpreter")
    parser.add_argument("--compile", metavar="K/N", help=argparse.SUPPRESS)  # K/N, of a worker: every N-th point from K
    asked = parser.parse_args()
    device = "cpu" if asked.dry else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU found; --dry runs without one")
    if asked.compile:
        return _compile(*map(int, asked.compile.split("/")))
    if asked.dry:
        linear.STEPS, linear.COLUMNS = 4, 16  # the interpreter reduces elementwise
    else:
        _warm_up(asked.workers, asked.minutes)
    points = tiny() if asked.dry else declared()
    checked = Budget(asked.to, "checks", 0.45 * asked.minutes)
    checked.each((f"check {point.key}", partial(check, point, device)) for point in checks(asked.dry))
    budget = Budget(asked.to, "points", asked.minutes)
    budget.each([("ceilings", partial(ceilings, device))], margin=5)
    ceiling = budget.found.get("ceilings", {})
    finished = "copy" in ceiling and budget.each(_work(points, device, ceiling), margin=6)
    text = report(asked.to, points, budget, checked, finished)
    print(text)
    (asked.to / "table.txt").write_text(text + "\n", "utf-8")
    return 1 if any(row.get("right") is False for row in checked.found.values()) else 0


def _work(
    points: list[Point], device: str, ceiling: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for point in points:
        yield point.key, partial(measure, point, device, ceiling)
    dry = device == "cpu"
    for point in points[:1] if dry else COMPILED:
        yield f"{point.key} compiled", partial(measure, point, device, ceiling, compiled=True)
    for point in points[:1] if dry else TILED:
        yield f"{point.key} tiles", partial(tiles, point, device, TILES[:1] if dry else TILES)


def checks(dry: bool) -> list[Point]:
    """Return the points compared with float64: every cell, dtype, direction and size, ragged and not."""
    if dry:
        return tiny()
    found = [
        Point(cell, 37, 33, hidden, dtype, directions, ragged, save)
        for hidden in (64, 128, 50)
        for dtype in DTYPES
        for cell in CELLS
        for directions, ragged, save in ((2, True, "gates"), (1, False, "gates"), (2, True, "recompute"))
        if not (cell == "mingru" and (dtype == "tf32" or save == "recompute")) and not (cell == "rnn" and hidden == 50)
    ]
    return [point for point in found if _refusal(point) is None]


def _refusal(point: Point) -> str | None:
    layer, x, lengths = drawn(point._replace(batch=1, time=1), "cuda")
    with precision(point.dtype):
        return ours(point).refuses(layer.cells, x, lengths)


def _compile(first: int, of: int) -> int:
    """Run one step of each variant to fill Triton's cache."""
    torch.set_num_threads(1)
    forms = {}
    for point in [*declared(), *checks(False)]:
        small = point._replace(batch=2, time=2, directions=1)
        forms.setdefault(small, None)
    for point in list(forms)[first::of]:
        try:
            with precision(point.dtype):
                layer, x, lengths = drawn(point, "cuda")
                output = layer(x, lengths=lengths, final_state=False)[0]
                torch.autograd.grad(output.sum(), [x, *layer.parameters()])
                with torch.no_grad():
                    layer(x, lengths=lengths, final_state=False)
        except Exception as error:  # reported when it is measured
            print(f"{point.key}: {error}", file=sys.stderr)
    return 0


def _warm_up(workers: int, minutes: float) -> None:
    print(f"compiling in {workers} processes", flush=True)
    command = [sys.executable, str(Path(__file__)), "--compile"]
    running = [subprocess.Popen([*command, f"{k}/{workers}"]) for k in range(workers)]
    for each in running:
        try:
            each.wait(60 * minutes / 3)
        except subprocess.TimeoutExpired:
            each.kill()


def report(folder: Path, points: list[Point], budget: Budget, checked: Budget, finished: bool) -> str:
    """Write ``record.json`` and return the table of the results so far."""
    rows = [budget.found[point.key] for point in points if point.key in budget.found]
    good = [row for row in rows if "error" not in row]
    wrong = [row["key"] for row in checked.found.values() if row.get("right") is False or "error" in row]
    record = {
        **_machine(),
        "command": " ".join(["python", *sys.argv]),
        "ceilings": budget.found.get("ceilings"),
        "points": [
            {**_point(row).layer, "speed": row["over_vendor"], "save": _point(row).save}
            for row in good
            if "over_vendor" in row and _point(row).save == "gates"
        ],
    }
    (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    shown = [
        {
            **row,
            "ms": row["ms"]["ours"],
            "scan": row.get("scan_bandwidth"),
            "mib": None if row["peak"].get("ours") is None else round(row["peak"]["ours"] / 2**20),
        }
        for row in good
    ]
    found = budget.found.get("ceilings", {})
    heights = ", ".join(f"{key} {found[key] / 1e12:.3g} T/s" for key in ("copy", *DTYPES) if key in found)
    lines = [table(COLUMNS, shown), f"{record['device']}, {record['versions']}: {heights}"]
    lines += [f"{row['key']}: {row['error']}" for row in rows if "error" in row]
    for row in budget.found.values():
        if row["key"].endswith(" compiled") and "over_compiled" in row:
            lines.append(f"{row['key']}: {row['over_compiled']:.2f} x our time")
        for name, took in row.get("tiles", {}).items():
            lines.append(f"{row['key']}: {name}: {json.dumps(took)} ms")
    right = sum(row.get("right") is True for row in checked.found.values())
    lines.append(f"checks: {right} passed; failed: {', '.join(wrong) or 'none'}")
    lines.append(f"{len(rows)} of {len(points)} points" + ("" if finished else "; run the same command to resume"))
    return "\n".join(lines)


def _point(row: dict[str, Any]) -> Point:
    return Point(**row["point"])


def _machine() -> dict[str, Any]:
    import triton

    versions = f"torch {torch.__version__}, triton {triton.__version__}, Python {sys.version.split()[0]}"
    if not torch.cuda.is_available():
        return {"architecture": "none", "device": "CPU (dry)", "versions": versions}
    from seqlab_cells.gpu.limits import architecture

    device = torch.device("cuda", torch.cuda.current_device())
    takes = torch.cudnn_is_acceptable(torch.ones(1, dtype=torch.bfloat16, device=device))
    versions += f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    versions += "" if takes else " (not for bfloat16, where torch's own steps are measured)"
    return {"architecture": architecture(device), "device": torch.cuda.get_device_name(device), "versions": versions}


if __name__ == "__main__":
    sys.exit(main())
