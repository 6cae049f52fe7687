"""``python -m seqlab --help``: an overview from metadata alone; torch is not imported."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seqlab._version import __version__
from seqlab.plugins.registry import plugins

if TYPE_CHECKING:
    from omegaconf import DictConfig


CHOSEN = ("cell", "model", "task", "preprocessing", "kernel")
FILES = ("trainer", "optimizer", "data")
"""The groups whose keys ``--help`` explains: of plugins, and of files."""


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
        "        init_from=RUN_DIR, freeze=\\[encoder,...], experiment=...,\n"
        "        hydra.run.dir=..., debug=overfit|limit|fdr|profiler\n"
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


def choice_help(config: "DictConfig") -> None:
    """Explain the keys of a run and their values: of plugins from their docstrings, of the rest from its files.

    Args:
        config: as it was typed, composed.
    """
    from seqlab.plugins.config import plugin_classes
    from seqlab.plugins.signature import options, summary

    console = Console(highlight=False, soft_wrap=True)
    plugged = [(kind, kind, config[kind]) for kind in CHOSEN if config[kind] is not None]
    plugged += [("callback", f"callbacks.{name}", node) for name, node in (config.get("callbacks") or {}).items()]
    for kind, key, node in plugged:
        for target in plugin_classes(kind, node.name)[:1]:
            console.print(f"[bold]{key.partition('.')[0]}={node.name}[/bold]  {escape(plain(summary(target)))}")
            docs = {option.name: option.doc for option in options(target) if not option.supplied}
            for name, doc in docs.items():
                _explain(console, f"{key}.{name}", node.get(name), doc)
    for group in FILES:
        console.print(f"[bold]{group}[/bold]")
        chosen = config[group].get("name") or "default"
        for name, doc in _comments(group, chosen).items():
            if name in config[group]:
                _explain(console, f"{group}.{name}", config[group][name], doc)
    console.print("[bold]a run[/bold]")
    for name, doc in _comments("", "config").items():
        if name in config and name not in CHOSEN:
            _explain(console, name, config[name], doc)


def _explain(console: Console, key: str, value: Any, doc: str) -> None:
    console.print(f"  {key}={escape(typed(value))}  [dim]{escape(plain(doc))}[/dim]")


def typed(value: Any) -> str:
    """Write a value as it would be typed."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(str, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _comments(group: str, chosen: str) -> dict[str, str]:
    """Read what the files of a group say of their keys: the chosen one, then those that it may build on."""
    folder = files("seqlab_conf") / group
    names = [path.name for path in folder.iterdir() if path.name.endswith(".yaml")] if group else ["config.yaml"]
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name != f"{chosen}.yaml", name)):
        for key, _, comment in file_keys((folder / name).read_text("utf-8")):
            if comment:
                found.setdefault(key, comment)
    return found


def file_keys(text: str) -> list[tuple[str, str, str]]:
    """Read the keys of a file of the config, each with its value and the comment beside it."""
    return re.findall(r"^(\w+): ([^#\n]*?)(?:\s+# (.*))?$", text, re.MULTILINE)


def plain(doc: str) -> str:
    """Take the marks of reStructuredText out of a docstring's line."""
    return re.sub(r":\w+:`\.?([^`]*)`", r"\1", doc).replace("``", "")
