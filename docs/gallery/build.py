"""Build the gallery: pictures of real runs, each by the verb that draws it, and the page that says what one sees.

    python docs/gallery/build.py SWEEP_DIR [--work DIR]

SWEEP_DIR is the folder of a horizon search, finished or not; ``python -m seqlab -m experiment=horizon_quick
hydra/launcher=joblib hydra.launcher.n_jobs=2`` makes one. Two further runs are done in ``--work``, unless they are
there already. The kernels' times are those of ``kernels.csv``, which ``bench --csv`` wrote; nothing is timed here.
"""

import argparse
import json
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
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

Pictures of real runs, each drawn by the verb whose command stands below it. One command makes them and this page anew,
from any horizon search:

    python docs/gallery/build.py SWEEP_DIR
"""


def main() -> int:
    """Make the runs that are missing, the pictures, and the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("sweep", metavar="SWEEP_DIR", type=Path, help="the folder of a horizon search")
    parser.add_argument("--work", metavar="DIR", type=Path, default=Path("runs/gallery"), help="where the runs go")
    asked = parser.parse_args()
    if not (asked.sweep / "horizon.json").is_file():
        print(f"{asked.sweep} is not a horizon search's folder: there is no horizon.json in it", file=sys.stderr)
        return 1
    asked.work.mkdir(parents=True, exist_ok=True)
    sections = [*horizons(asked.sweep, asked.work), *names(asked.work), *reviews(asked.work), *kernel_speed()]
    lines = "\n".join([HEAD, *sections]).rstrip().splitlines()
    (HERE / "index.md").write_text("\n".join(map(folded, lines)) + "\n", "utf-8")
    print(HERE / "index.md")
    return 0


def horizons(sweep: Path, work: Path) -> list[str]:
    """Report the search, and the two runs whose gradients are shown."""
    report = work / "report"
    found = json.loads((sweep / "horizon.json").read_text("utf-8"))
    if not (report / "report.md").is_file() or newer(sweep / "horizon.json", report / "report.md"):
        seqlab("report", str(sweep), "--out", str(report))
    said, about = search.answers((report / "report.md").read_text("utf-8")), search.about(sweep)
    sections = ["## How far back\n"]
    for task, answer in said.items():
        keep(report / "figures" / f"{task}_horizon.png", f"horizon_{task}.png")
        sections += [f"![{search.alternative(found, task)}](horizon_{task}.png)\n", f"{answer}\n"]
    first = next(iter(said))
    keep(report / "figures" / f"{first}_scores.png", "scores.png")
    sections += [
        f"![The test score of each cell on {first} against the distance, with its spread over the seeds](scores.png)\n",
        search.caption(found),
        shown([found["command"], "python -m seqlab report SWEEP_DIR"], about),
    ]
    return sections + gradients(sweep, work, first, about)


def gradients(sweep: Path, work: Path, task: str, about: str) -> list[str]:
    """Put the gradient flow of an RNN beside that of an LSTM, at the largest distance at which both were run."""
    pair = search.pair(sweep, task)
    if pair is None:
        return []
    flow = work / "flow"
    seqlab("report", *map(str, pair.runs), "--out", str(flow))
    keep(flow / "figures" / f"{task}_flow_h.png", "gradient_flow.png")
    text = (
        "![How much of the gradient reaches the state so many steps back, for an RNN and an LSTM, before and after"
        " training](gradient_flow.png)\n"
    )
    command = "python -m seqlab report RUN_OF_THE_RNN RUN_OF_THE_LSTM --out FOLDER"
    return ["## Why no further\n", text, pair.caption(), shown([command], about)]


def names(work: Path) -> list[str]:
    """Train an LSTM on the bundled names: what its gates do along one of them, and whom it takes for whom."""
    words = ["cell=lstm", "cell.forget_bias=0", "task=names"]
    folder = trained(words, work / "names")
    record = json.loads((folder / "results.json").read_text("utf-8"))
    seqlab("inspect", str(folder), NAME, "--out", str(work / "gates.png"))
    keep(work / "gates.png", "gates.png")
    keep(folder / "confusion.png", "confusion.png")
    train, about = f"python -m seqlab {shlex.join(words)} hydra.run.dir=RUN_DIR", dated(folder, record)
    gates = (
        f"An LSTM reads *{NAME}* letter by letter. From the top: what it would answer after each letter, how strongly"
        " that answer depends on it, then each leaf of the state and each gate, a row for each unit.\n"
    )
    return [
        "## Gates along a name\n",
        f"![State and gates of an LSTM at each letter of {NAME}](gates.png)\n",
        gates,
        shown([train, f"python -m seqlab inspect RUN_DIR {NAME}"], about),
        "## Who is taken for whom\n",
        "![The confusion matrix of 18 languages](confusion.png)\n",
        f"{score(record)} Each row is a language, each column an answer; what is off the diagonal is wrong.\n",
        shown([train, "ls RUN_DIR/confusion.png"], about),
    ]


def reviews(work: Path) -> list[str]:
    """Train a GRU on the bundled reviews: whether its confidence can be believed."""
    words = ["task=textclf", "cell=gru"]
    folder = trained(words, work / "reviews")
    record = json.loads((folder / "results.json").read_text("utf-8"))
    keep(folder / "reliability.png", "reliability.png")
    error = record["metrics"]["test"]["calibration_error"]
    return [
        "## Whether confidence can be believed\n",
        "![Accuracy against confidence, beside the diagonal](reliability.png)\n",
        f"{score(record)} A mark below the dashed line is a bin in which the model was surer than it was right; the"
        f" bars below say how many reviews are in each. The calibration error is {error:.3f}.\n",
        shown([f"python -m seqlab {shlex.join(words)} hydra.run.dir=RUN_DIR", "ls RUN_DIR/reliability.png"],
              dated(folder, record)),
    ]  # fmt: skip


def kernel_speed() -> list[str]:
    """Draw the ratios of ``kernels.csv``."""
    drawn = HERE / "kernels.png"
    kernels.draw(HERE / "kernels.csv", drawn)
    keep(drawn, "kernels.png")
    return [
        "## How fast\n",
        "![How many times as fast as torch.nn a training step with the fused kernels is](kernels.png)\n",
        kernels.CAPTION,
        shown(kernels.COMMANDS, kernels.ABOUT),
    ]


def trained(words: Sequence[str], folder: Path) -> Path:
    """Do a run, unless it is there."""
    if not (folder / "results.json").is_file():
        seqlab(*words, "trainer.progress=false", f"hydra.run.dir={folder}")
    return folder


def seqlab(*words: str) -> None:
    """Run a command of seqlab's, and end with it if it fails."""
    print(f"python -m seqlab {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "seqlab", *words], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)


def keep(source: Path, name: str) -> None:
    """Copy a picture here, on white with a margin, so that a dark page can show it; a large one in fewer colours."""
    with Image.open(source) as picture:
        whole = Image.new("RGB", (picture.width + 2 * PADDING, picture.height + 2 * PADDING), "white")
        drawn = picture.convert("RGBA")
        whole.paste(drawn, (PADDING, PADDING), drawn)
    whole.save(HERE / name, optimize=True)
    if (HERE / name).stat().st_size > LARGEST:
        whole.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def shown(commands: Sequence[str], about: str) -> str:
    """Give the commands as a block, and below it when and where."""
    return "\n".join([*(f"    {command}" for command in commands), "", f"({about})", ""])


def dated(folder: Path, record: dict[str, Any]) -> str:
    """Say when a run ended, and on what."""
    day = datetime.fromtimestamp((folder / "results.json").stat().st_mtime, UTC)
    return search.machine(day, record)


def score(record: dict[str, Any]) -> str:
    """Say a run's test accuracy, with that of a predictor that ignores its input."""
    accuracy, chance = record["metrics"]["test"]["accuracy"], record["chance"]["test"]["accuracy"]
    return f"Test accuracy {accuracy:.3f}, where ignoring the input scores {chance:.3f}."


def folded(line: str) -> str:
    """Fold a line of text; headings, pictures and commands stay as they are."""
    return line if line.startswith(("#", "!", " ")) else "\n".join(textwrap.wrap(line, 120, break_on_hyphens=False))


def newer(one: Path, other: Path) -> bool:
    """Whether a file was written after another."""
    return one.stat().st_mtime > other.stat().st_mtime


if __name__ == "__main__":
    sys.exit(main())
