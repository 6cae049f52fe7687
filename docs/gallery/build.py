"""Gallery builder: pictures of real runs, each by the command that draws it, and the page that explains them.

    python docs/gallery/build.py SWEEP_DIR [--work DIR]

SWEEP_DIR is the folder of a horizon search, finished or not (``python -m seqlab -m experiment=horizon_quick
hydra/launcher=joblib hydra.launcher.n_jobs=2``). Two further runs go to ``--work`` unless they exist there. Kernel
times are read from ``kernels.csv``, written by ``bench --csv``.
"""

import argparse
import json
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kernels
import search
from PIL import Image

HERE = Path(__file__).resolve().parent
NAME = "Angelopoulos"
PADDING, LARGEST = 14, 150_000
"""Pixels around a picture, and bytes of one."""
HEAD = """# Gallery

Pictures of real runs; each is a link to its full size. `python docs/gallery/build.py SWEEP_DIR` rebuilds the page.
"""


def main() -> int:
    """Run what is missing, draw the pictures, write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("sweep", metavar="SWEEP_DIR", type=Path, help="the folder of a horizon search")
    parser.add_argument("--work", metavar="DIR", type=Path, default=Path("runs/gallery"), help="where the runs go")
    asked = parser.parse_args()
    if not (asked.sweep / "horizon.json").is_file():
        print(f"{asked.sweep} has no horizon.json: name the folder of a horizon search", file=sys.stderr)
        return 1
    asked.work.mkdir(parents=True, exist_ok=True)
    sections = [*horizons(asked.sweep, asked.work), *names(asked.work), *reviews(asked.work), *kernel_speed()]
    lines = "\n".join([HEAD, *sections]).rstrip().splitlines()
    (HERE / "index.md").write_text("\n".join(map(folded, lines)) + "\n", "utf-8")
    print(HERE / "index.md")
    return 0


def horizons(sweep: Path, work: Path) -> list[str]:
    """Report the search and gradient flow of two of its runs."""
    report = work / "report"
    found = json.loads((sweep / "horizon.json").read_text("utf-8"))
    if not (report / "report.md").is_file() or newer(sweep / "horizon.json", report / "report.md"):
        seqlab("report", str(sweep), "--out", str(report))
    said = search.answers((report / "report.md").read_text("utf-8"))
    about = setup(*sweep.glob("*/results.json"))
    first = next(iter(said))
    pictures = {f"horizon_{task}.png": f"Horizons on {task}" for task in said}
    for task in said:
        keep(report / "figures" / f"{task}_horizon.png", f"horizon_{task}.png")
    keep(report / "figures" / f"{first}_scores.png", "scores.png")
    pictures["scores.png"] = f"Test scores on {first} against distance"
    sections = [
        "## Horizons\n",
        side_by_side(pictures),
        *(f"{answer}\n" for answer in said.values()),
        search.caption(found),
        shown([found["command"], "python -m seqlab report SWEEP_DIR"], about),
    ]
    return sections + gradients(sweep, work, first, about)


def gradients(sweep: Path, work: Path, task: str, about: str) -> list[str]:
    """Compare the gradient flow of an RNN and an LSTM at the largest distance that both have."""
    pair = search.pair(sweep, task)
    if pair is None:
        return []
    flow = work / "flow"
    seqlab("report", *map(str, pair.runs), "--out", str(flow))
    keep(flow / "figures" / f"{task}_flow_h.png", "gradient_flow.png")
    text = "Gradient norm against steps back of an RNN and an LSTM, before and after training"
    command = "python -m seqlab report RUN_OF_THE_RNN RUN_OF_THE_LSTM --out FOLDER"
    return ["## Gradient flow\n", side_by_side({"gradient_flow.png": text}), pair.caption(), shown([command], about)]


def names(work: Path) -> list[str]:
    """Train an LSTM on the bundled names; show its gates along one and its confusion matrix."""
    overrides = ["cell=lstm", "cell.forget_bias=0", "task=names"]
    folder = trained(overrides, work / "names")
    record = json.loads((folder / "results.json").read_text("utf-8"))
    seqlab("inspect", str(folder), NAME, "--out", str(work / "gates.png"))
    keep(work / "gates.png", "gates.png")
    keep(folder / "confusion.png", "confusion.png")
    train, about = f"python -m seqlab {shlex.join(overrides)} hydra.run.dir=RUN_DIR", setup(folder / "results.json")
    return [
        "## Gates and confusions\n",
        side_by_side({"gates.png": f"States and gates of an LSTM along {NAME}", "confusion.png": "Confusion matrix"}),
        "By letter: prediction, its sensitivity to the letter, units of states and gates. Confusion: languages in rows,"
        f" predictions in columns. {score(record)}\n",
        shown([train, f"python -m seqlab inspect RUN_DIR {NAME}"], about),
    ]


def reviews(work: Path) -> list[str]:
    """Train a GRU on the bundled reviews; show its calibration."""
    overrides = ["task=textclf", "cell=gru"]
    folder = trained(overrides, work / "reviews")
    record = json.loads((folder / "results.json").read_text("utf-8"))
    keep(folder / "reliability.png", "reliability.png")
    error = record["metrics"]["test"]["calibration_error"]
    return [
        "## Calibration\n",
        side_by_side({"reliability.png": "Reliability diagram"}),
        f"{score(record)} Calibration error {error:.3f}; below the diagonal the model is overconfident. Bars count"
        " reviews.\n",
        shown([f"python -m seqlab {shlex.join(overrides)} hydra.run.dir=RUN_DIR"], setup(folder / "results.json")),
    ]


def kernel_speed() -> list[str]:
    """Draw the speed-ups of ``kernels.csv``."""
    drawn = HERE / "kernels.png"
    kernels.draw(HERE / "kernels.csv", drawn)
    keep(drawn, "kernels.png")
    return [
        "## Speed of the fused kernels\n",
        side_by_side({"kernels.png": "Speed-up of a training step over torch.nn"}),
        kernels.CAPTION,
        shown(kernels.COMMANDS, kernels.ABOUT),
    ]


def trained(overrides: Sequence[str], folder: Path) -> Path:
    """Train unless the results exist; return the run's folder."""
    if not (folder / "results.json").is_file():
        seqlab(*overrides, "trainer.progress=false", f"hydra.run.dir={folder}")
    return folder


def seqlab(*overrides: str) -> None:
    """Run a command; exit with its code if it fails."""
    print(f"python -m seqlab {shlex.join(overrides)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "seqlab", *overrides], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)


def keep(source: Path, name: str) -> None:
    """Copy a picture onto white with a margin, for dark pages; reduce the colours of a large one."""
    with Image.open(source) as picture:
        whole = Image.new("RGB", (picture.width + 2 * PADDING, picture.height + 2 * PADDING), "white")
        drawn = picture.convert("RGBA")
        whole.paste(drawn, (PADDING, PADDING), drawn)
    whole.save(HERE / name, optimize=True)
    if (HERE / name).stat().st_size > LARGEST:
        whole.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def side_by_side(pictures: Mapping[str, str]) -> str:
    """Return a paragraph of pictures by file, with their descriptions; each is a link to its full size."""
    return "\n".join(f"[![{about}]({name})]({name})" for name, about in pictures.items()) + "\n"


def shown(commands: Sequence[str], about: str) -> str:
    """Return a folded block of commands with date and machine below."""
    head = ["<details><summary>Command</summary>", ""]
    return "\n".join([*head, *(f"    {command}" for command in commands), "", f"({about})", "", "</details>", ""])


def setup(*results: Path) -> str:
    """Return date, machine and torch version of the newest results."""
    newest = max(results, key=lambda path: path.stat().st_mtime)
    day, record = datetime.fromtimestamp(newest.stat().st_mtime, UTC), json.loads(newest.read_text("utf-8"))
    hardware, torch = record["hardware"], record["versions"]["torch"]
    return f"{day.day} {day:%B %Y}; {hardware['cpu']}, {hardware['cpu_threads']} threads, torch {torch}"


def score(record: dict[str, Any]) -> str:
    """Return a run's test accuracy beside the input-independent baseline."""
    accuracy, baseline = record["metrics"]["test"]["accuracy"], record["chance"]["test"]["accuracy"]
    return f"Test accuracy {accuracy:.3f} (baseline {baseline:.3f})."


def folded(line: str) -> str:
    """Wrap a line of prose; leave headings, pictures and commands alone."""
    return line if line.startswith(("#", "[!", " ")) else "\n".join(textwrap.wrap(line, 120, break_on_hyphens=False))


def newer(one: Path, other: Path) -> bool:
    """Whether a file is newer than another."""
    return one.stat().st_mtime > other.stat().st_mtime


if __name__ == "__main__":
    sys.exit(main())
