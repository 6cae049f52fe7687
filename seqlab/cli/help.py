"""``python -m seqlab --help``: overview from metadata, without torch; and explanations of config keys."""

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

PLUGINS = ("cell", "model", "task", "preprocessing", "kernel")
"""Config groups of plugins."""
FILES = ("trainer", "optimizer", "data")
"""Config groups of files whose keys ``--help`` explains."""
_OWN = "seqlab"
_GROUPS = {"step": "preprocessing.steps", "callback": "callbacks"}
"""Config keys of the kinds whose names differ."""
_KEYS = """
[bold]Keys[/bold]    seed, cell.hidden_size, model.depth, model.bidirectional,
        model.dropout, model.input, task.sequence_length, task.data_dir,
        task.source, task.split_seed, trainer.max_epochs, data.batch_size,
        optimizer.lr, logger=csv|wandb|tensorboard|none, ckpt_path=last,
        init_from=RUN_DIR, freeze=\\[encoder,...], experiment=...,
        hydra.run.dir=..., debug=overfit|limit|fdr|profiler
        python -m seqlab cell=gru task=names --cfg job   prints every key
        python -m seqlab cell=gru task=names --help      explains the keys
        python -m seqlab --hydra-help                    Hydra's own flags"""


def overview(commands: Mapping[str, str]) -> None:
    """Print commands, plugins and the most important config keys."""
    console = Console(highlight=False)
    console.print(f"[bold]seqlab {__version__}[/bold]: recurrent sequence models, and how far back they remember\n")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    grid.add_row("Train", Text("python -m seqlab cell=lstm task=names [key=value ...]"))
    grid.add_row("Sweep", Text("python -m seqlab -m cell=rnn,lstm,gru model.depth=1,2"))
    for command, text in commands.items():
        meaning, _, usage = text.rpartition(": ")
        grid.add_row(command.capitalize(), Text.assemble(f"{meaning}: ", (usage, "cyan")))
    console.print(grid)
    console.print("\n[bold]Plugins[/bold] (with their distribution, if it is not seqlab)")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for kind in ("cell", "model", "task", "preprocessing", "step", "callback", "kernel"):
        if owners := _owners(kind):
            names = (name if owner == _OWN else f"{name} ({owner})" for name, owner in owners.items())
            grid.add_row(f"  {_GROUPS.get(kind, kind)}=", Text(", ".join(names)))
    console.print(grid)
    console.print(_KEYS)


def _owners(kind: str) -> dict[str, str]:
    """Return the distribution of each name that a config key takes."""
    if kind == "kernel":
        owners = dict.fromkeys(("auto", "loop", "compiled"), _OWN)
        return owners | {entry.partition(".")[2]: plugin.distribution for entry, plugin in plugins("kernel").items()}
    found = {**plugins(kind), **(plugins("pinned") if kind == "cell" else {})}
    return {name: plugin.distribution for name, plugin in sorted(found.items())}


def explain_keys(config: "DictConfig") -> None:
    """Print the keys of a composed config with values and meanings, from docstrings and comments of config files."""
    from seqlab.plugins.config import plugin_classes
    from seqlab.plugins.signature import options, summary

    console = Console(highlight=False, soft_wrap=True)
    chosen = [(kind, kind, config[kind]) for kind in PLUGINS if config[kind] is not None]
    chosen += [("callback", f"callbacks.{name}", node) for name, node in (config.get("callbacks") or {}).items()]
    for kind, key, node in chosen:
        for target in plugin_classes(kind, node.name)[:1]:
            console.print(f"[bold]{key.partition('.')[0]}={node.name}[/bold]  {escape(plain(summary(target)))}")
            for option in options(target):
                if not option.supplied:
                    _explain(console, f"{key}.{option.name}", node.get(option.name), option.doc)
    for group in FILES:
        console.print(f"[bold]{group}[/bold]")
        for name, doc in _comments(group, config[group].get("name") or "default").items():
            if name in config[group]:
                _explain(console, f"{group}.{name}", config[group][name], doc)
    console.print("[bold]a run[/bold]")
    for name, doc in _comments("", "config").items():
        if name in config and name not in PLUGINS:
            _explain(console, name, config[name], doc)


def _explain(console: Console, key: str, value: Any, doc: str) -> None:
    console.print(f"  {key}={escape(typed(value))}  [dim]{escape(plain(doc))}[/dim]")


def typed(value: Any) -> str:
    """Write a value as on the command line."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(str, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _comments(group: str, chosen: str) -> dict[str, str]:
    """Return the comments on keys in the files of a group: the chosen file first, then those that it may extend."""
    folder = files("seqlab_conf") / group
    names = [path.name for path in folder.iterdir() if path.name.endswith(".yaml")] if group else ["config.yaml"]
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name != f"{chosen}.yaml", name)):
        for key, _, comment in file_keys((folder / name).read_text("utf-8")):
            if comment:
                found.setdefault(key, comment)
    return found


def file_keys(text: str) -> list[tuple[str, str, str]]:
    """Return the keys of a config file, each with its value and the comment beside it."""
    return re.findall(r"^(\w+): ([^#\n]*?)(?:\s+# (.*))?$", text, re.MULTILINE)


def plain(doc: str) -> str:
    """Remove the markup of reStructuredText from a line of a docstring."""
    return re.sub(r":\w+:`\.?([^`]*)`", r"\1", doc).replace("``", "")
