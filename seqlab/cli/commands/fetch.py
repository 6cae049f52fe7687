"""``fetch task=...``: fill the caches where there is a network, for runs where there is none."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqlab.cli.arguments import add_config_dir, parse, with_config_dir
from seqlab.cli.multirun import FLAGS
from seqlab.cli.parser import Parser
from seqlab.plugins.hydra_source import using_sources


def main(arguments: list[str]) -> int:
    """Do what runs of the same words do before they train: download, fit and encode."""
    parser = Parser(
        "fetch",
        description="Fill the caches for runs or a sweep of the same words, such as: "
        "seqlab fetch task=lm task.source=ptb preprocessing=words,characters. On a cluster, type it on a node that "
        "has a network; runs on the others then need none, if SEQLAB_CACHE names a folder that they share.",
    )
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for training; commas make several")
    add_config_dir(parser)
    parser.add_argument(*FLAGS, action="store_true", help="taken and ignored, so that a sweep's words fit as they are")
    words = parse(with_config_dir(parser.parse_intermixed_args(arguments)))
    with using_sources(words.sources):
        for plain in fetched_configs(words.overrides):
            _fill(plain)
    show_cache(cache_contents())
    return 0


def fetched_configs(words: Sequence[str]) -> list[dict[str, Any]]:
    """Compose the configs that words ask for, one for each that reads data of its own.

    Raises:
        UserError, hydra.errors.HydraException: a config cannot be composed.
    """
    from seqlab.config.compose import compose_all
    from seqlab.config.schema import plain_config
    from seqlab.sweeps.overrides import expand, key_of
    from seqlab.sweeps.plan import params_of

    kept = [word for word in words if not key_of(word).startswith(("hydra.", "hydra/"))]
    found: dict[str, dict[str, Any]] = {}
    for config in compose_all(expand(kept, params_of(words))):
        plain = plain_config(config)
        what = [plain["task"], plain["preprocessing"], plain.get("init_from")]
        found.setdefault(json.dumps(what, sort_keys=True, default=str), plain)
    return list(found.values())


def _fill(plain: dict[str, Any]) -> None:
    from seqlab.data.statistics import format_statistics
    from seqlab.training.finetune import load_init
    from seqlab.training.session import prepare_data

    _, data = prepare_data(plain, load_init(plain, Path(), None))
    chosen = plain["preprocessing"]
    print(f"task={plain['task']['name']}" + (f" preprocessing={chosen['name']}" if chosen else ""))
    for line in format_statistics(data.statistics):
        print(f"  {line}")


def cache_contents() -> dict[str, tuple[int, int]]:
    """Count what the cache holds: files and bytes of each of its folders; locks do not count."""
    from seqlab.io.cache import cache_folder

    found: dict[str, tuple[int, int]] = {}
    for path in sorted(cache_folder().rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            folder = str(path.parent.relative_to(cache_folder()))
            files, size = found.get(folder, (0, 0))
            found[folder] = files + 1, size + path.stat().st_size
    return found


def show_cache(found: dict[str, tuple[int, int]]) -> None:
    """Print what the cache holds, and where it is."""
    from rich.console import Console
    from rich.markup import escape

    from seqlab.io.cache import cache_folder

    console = Console(highlight=False)
    for folder, (files, size) in found.items():
        console.print(f"{files:6,} files {size / 1e6:10,.1f} MB  {escape(folder)}", soft_wrap=True)
    if not found:
        console.print("nothing: these data are bundled, or small enough to be read anew by each run")
    console.print(f"cache folder  {escape(str(cache_folder()))}  (SEQLAB_CACHE names another)", soft_wrap=True)
