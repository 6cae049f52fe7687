"""``python -m seqlab --help``: an overview from metadata alone; torch is not imported."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seqlab._version import __version__
from seqlab.discovery.registry import plugins


def overview(verbs: Mapping[str, str]) -> None:
    """Print verbs, plugins and the keys that matter most."""
    console = Console(highlight=False)
    console.print(f"[bold]seqlab {__version__}[/bold]: how far back can a cell remember, and why no further?\n")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    grid.add_row("Train", Text("python -m seqlab cell=lstm task=names [key=value ...]"))
    grid.add_row("Sweep", Text("python -m seqlab -m cell=rnn,lstm,gru model.depth=1,2"))
    for verb, meaning in verbs.items():
        what, _, typed = meaning.rpartition(": ")
        grid.add_row(verb.capitalize(), Text.assemble(f"{what or typed}: " if what else "", (typed, "cyan")))
    console.print(grid)
    console.print("\n[bold]What can be chosen[/bold] (and the distribution that brings it)")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for kind in ("cell", "model", "task", "preprocessing", "step", "callback"):
        found = {**plugins(kind), **(plugins("pinned") if kind == "cell" else {})}
        _choices(grid, kind, {name: plugin.distribution for name, plugin in sorted(found.items())})
    kernels = dict.fromkeys(("auto", "loop", "compiled"), "seqlab")
    kernels |= {entry.partition(".")[2]: plugin.distribution for entry, plugin in plugins("kernel").items()}
    _choices(grid, "kernel", kernels)
    console.print(grid)
    console.print(
        "\n[bold]Keys[/bold]    seed, cell.hidden_size, model.depth, model.bidirectional,\n"
        "        model.dropout, model.input, task.sequence_length, task.data_dir,\n"
        "        task.source, task.split_seed, trainer.max_epochs, data.batch_size,\n"
        "        optimizer.lr, logger=csv|wandb|tensorboard|none, ckpt_path=last,\n"
        "        init_from=RUN_DIR, freeze=\\[encoder,...], experiment=..., hydra.run.dir=...,\n"
        "        debug=overfit|limit|fdr|profiler\n"
        "        python -m seqlab cell=gru task=names --cfg job   prints every key\n"
        "        python -m seqlab cell=gru task=names --help      explains the keys\n"
        "        python -m seqlab --hydra-help                    Hydra's own flags"
    )


def _choices(grid: Table, kind: str, choices: Mapping[str, str]) -> None:
    if not choices:
        return
    own = "seqlab"
    shown = [name if owner == own else f"{name} ({owner})" for name, owner in choices.items()]
    key = {"step": "preprocessing.steps", "callback": "callbacks"}.get(kind, kind)
    grid.add_row(f"  {key}=", Text(", ".join(shown)))


def choice_help(kinds: Mapping[str, str]) -> None:
    """Explain the options of chosen plugins, from their signatures and docstrings.

    Args:
        kinds: the plugin's name for each kind, such as ``{"cell": "lstm"}``.
    """
    from seqlab.discovery.config import targets
    from seqlab.discovery.signature import options, summary

    console = Console(highlight=False, soft_wrap=True)
    for kind, name in kinds.items():
        seen: set[str] = set()
        for target in targets(kind, name)[:1]:
            console.print(f"[bold]{kind}={name}[/bold]  {escape(summary(target))}")
            for option in options(target):
                if option.supplied or option.name in seen:
                    continue
                seen.add(option.name)
                shown = "null" if option.default is None else option.default
                console.print(f"  {kind}.{option.name}={escape(str(shown))}  [dim]{escape(option.doc)}[/dim]")
