"""How the loss falls with what a model has read: a table and a picture."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from seqlab_tasks.confusion import save


def position_table(sums: Tensor) -> list[dict[str, Any]]:
    """Give the mean loss at each position: tokens read before it in the window, nats, their standard error, tokens."""
    return [
        {
            "tokens_before": position,
            "loss": nats / count,
            "standard_error": math.sqrt(max(0.0, squares / count - (nats / count) ** 2) / count),
            "tokens": int(count),
        }
        for position, (nats, count, squares) in enumerate(sums.t().tolist())
        if count
    ]


def draw_loss_by_position(sums: Tensor, path: Path) -> None:
    """Draw it on a logarithmic axis of positions, with two standard errors to each side."""
    from matplotlib.figure import Figure

    rows = position_table(sums)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    where, loss = [row["tokens_before"] + 1 for row in rows], [row["loss"] for row in rows]
    low = [row["loss"] - 2 * row["standard_error"] for row in rows]
    high = [row["loss"] + 2 * row["standard_error"] for row in rows]
    axes.fill_between(where, low, high, alpha=0.2, linewidth=0, label="two standard errors")
    axes.plot(where, loss, linewidth=1.5)
    axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens read, the one before included")
    axes.set_ylabel("loss (nats a token)")
    axes.set_title("What reading further back is worth", loc="left")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
