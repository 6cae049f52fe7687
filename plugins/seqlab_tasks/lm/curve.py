"""How the loss falls with what a model has read: a table and a picture."""

from pathlib import Path
from typing import Any

from torch import Tensor


def position_table(sums: Tensor) -> list[dict[str, Any]]:
    """Give the mean loss at each position: tokens read before it in the window, nats, tokens measured."""
    return [
        {"tokens_before": position, "loss": nats / count, "tokens": int(count)}
        for position, (nats, count) in enumerate(sums.t().tolist())
        if count
    ]


def draw_loss_by_position(sums: Tensor, path: Path) -> None:
    """Draw it, on a logarithmic axis of positions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = position_table(sums)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([row["tokens_before"] + 1 for row in rows], [row["loss"] for row in rows], linewidth=1.5)
    axes.set_xscale("log")
    axes.set_xlabel("tokens read, the one before included")
    axes.set_ylabel("loss (nats a token)")
    axes.set_title("What reading further back is worth", loc="left")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
