"""Cards of all built-in cells and five of torchrecurrent by the quick protocol, their leaderboard and its figure.

    python benchmarks/cell_board.py --to FOLDER [--jobs 2] [--cells gru lstm] [--only cost] [--figure FILE.png]

Finished cards are not repeated, and one that was stopped goes on. Budgets are updates: scores do not depend on load,
the cost does; ``--only cost`` measures it again on an idle machine.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from pathlib import Path

from seqlab.study.card.protocol import QUICK, load

CELLS = [
    "gru", "lstm", "rnn", "mingru", "signed_mingru", "minlstm", "lru", "rg_lru", "slstm",
    "gated_deltanet cell.negative_eigenvalues=true", "selective_ssm", "janet", "mgu", "indrnn", "cornn",
    "antisymmetric", "lem", "coupled_lstm", "peephole_lstm", "clockwork", "layer_norm_lstm", "gated_deltanet",
    *(f"torchrecurrent cell.type={name}" for name in ("UGRNNCell", "CFNCell", "STARCell", "NBRCell", "NASCell")),
    "deltanet", "deltanet cell.negative_eigenvalues=true", "fast_weights", "mlstm cell.heads=4",
]  # fmt: skip
"""The quick ones first. One head of an mLSTM has a state of 43,000 numbers at this budget: 340 ms an update."""


def name_of(cell: str) -> str:
    """Return the folder of a card."""
    name, *options = cell.split()
    return "-".join([name, *(option.removeprefix("cell.") for option in options)])


def is_finished(folder: Path) -> bool:
    """Return whether a folder has a finished card of this protocol."""
    path = folder / "card.json"
    if not path.is_file():
        return False
    card = json.loads(path.read_text("utf-8"))
    return bool(card["finished"] and card["protocol_digest"] == load(QUICK).digest)


def make_cards(args: argparse.Namespace) -> None:
    for cell in args.cells or CELLS:
        folder = args.to / name_of(cell)
        if is_finished(folder) != (args.only is not None):
            continue
        words = [f"cell={cell.split()[0]}", *cell.split()[1:], "--quick", "--out", str(folder)]
        words += ["--only", args.only] if args.only else ["--jobs", str(args.jobs)]
        began = time.time()
        done = subprocess.run([sys.executable, "-m", "seqlab", "card", *words], check=False)
        print(f"{name_of(cell)}: exit code {done.returncode}, {(time.time() - began) / 60:.1f} minutes", flush=True)
        if done.returncode in (130, 143):
            raise SystemExit(done.returncode)
        make_board(args.to)


def make_board(folder: Path) -> None:
    cards = [str(folder / name_of(cell)) for cell in CELLS if is_finished(folder / name_of(cell))]
    if cards:
        subprocess.run([sys.executable, "-m", "seqlab", "board", *cards, "--out", str(folder)], check=True)


def draw(table: Path, figure: Path) -> None:
    """Draw scores as a table of colours: each column from its worst (white) to its best value, errors by logarithm."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if ": " in name and not name.endswith((", low", ", high"))]
    columns = [name for name in columns if not name.startswith(("conformance", "cost"))]
    canvas = Figure(figsize=(3.2 + 0.52 * len(columns), 2.4 + 0.24 * len(rows)), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    shades: list[list[float]] = [[] for _ in rows]
    for name in columns:
        values = [float(row[name]) if row[name] else math.nan for row in rows]
        is_error = "adding, 20" in name or "adding, beyond" in name
        heights = [-math.log(value) if is_error else value for value in values]
        known = [height for height in heights if not math.isnan(height)]
        low, high = min(known, default=0.0), max(known, default=1.0)
        for place, (value, height) in enumerate(zip(values, heights, strict=True)):
            shades[place].append((height - low) / (high - low) if high > low else 0.0 * height)
            shown = "none" if math.isnan(value) else f"{value:.3g}"
            axes.text(len(shades[place]) - 1, place, shown, ha="center", va="center",
                      fontsize=6, color="white" if shades[place][-1] > 0.6 else "black")  # fmt: skip
    colours = colormaps["Blues"].with_extremes(bad="lightgrey")
    axes.imshow(shades, cmap=colours, vmin=0, vmax=1.2, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(rows)), [row["cell"] for row in rows], fontsize=7)
    figure.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(figure, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="folder of the cards")
    parser.add_argument("--cells", nargs="+", help="some of them, with options in quotes")
    parser.add_argument("--jobs", type=int, default=2, help="processes that train")
    parser.add_argument("--only", choices=("cost",), help="measure the cost of finished cards again")
    parser.add_argument("--figure", type=Path, help="draw board.csv, and make no cards")
    args = parser.parse_args()
    if args.figure:
        make_board(args.to)
        draw(args.to / "board.csv", args.figure)
        return
    try:
        make_cards(args)
    except KeyboardInterrupt:  # the card was told, too, and goes on with the same command
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
