"""``fetch``: download and cache the data of runs, for machines without a network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqlab.cli.arguments import add_overrides, parse_overrides
from seqlab.cli.output import Output
from seqlab.cli.parser import Parser
from seqlab.io.cache import cache_folder
from seqlab.plugins.hydra_source import using_sources


def main(arguments: list[str]) -> int:
    """Download, fit and encode the data as runs with the same overrides do before they train."""
    parser = Parser(
        "fetch",
        description="Download and cache the data of a run or a sweep with the same overrides, such as: "
        "seqlab fetch task=lm task.source=ptb preprocessing=words,characters. On a cluster, run it on a node with a "
        "network; runs on other nodes then need none if SEQLAB_CACHE names a shared folder.",
    )
    add_overrides(parser, "as for training; commas give several values")
    parser.add_argument("-m", "--multirun", action="store_true", help="ignored, so that arguments of a sweep work")
    command = parse_overrides(parser.parse(arguments))
    with using_sources(command.sources):
        for config in distinct_configs(command.overrides):
            _fill(config)
    _show_cache(Output())
    return 0


def distinct_configs(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Compose the configs of a run or sweep; return one for each data set, preprocessing and initialisation.

    Raises:
        UserError, hydra.errors.HydraException: a config cannot be composed.
    """
    from seqlab.config.compose import compose_all
    from seqlab.config.schema import plain_config
    from seqlab.sweeps.overrides import expand, override_key
    from seqlab.sweeps.plan import sweeper_params

    kept = [word for word in overrides if not override_key(word).startswith(("hydra.", "hydra/"))]
    found: dict[str, dict[str, Any]] = {}
    for composed in compose_all(expand(kept, sweeper_params(overrides))):
        config = plain_config(composed)
        source = [config["task"], config["preprocessing"], config.get("init_from")]
        found.setdefault(json.dumps(source, sort_keys=True, default=str), config)
    return list(found.values())


def _fill(config: dict[str, Any]) -> None:
    from seqlab.data.statistics import format_statistics
    from seqlab.training.finetune import load_init
    from seqlab.training.session import prepare_data

    pretrained = load_init(config, Path(), None)
    _, data = prepare_data(config, pretrained)
    preprocessing = config["preprocessing"] if pretrained is None else pretrained.preprocessing
    print(f"task={config['task']['name']}" + (f" preprocessing={preprocessing['name']}" if preprocessing else ""))
    for line in format_statistics(data.statistics):
        print(f"  {line}")


def _show_cache(out: Output) -> None:
    """Print files and size of each folder of the cache; lock files do not count."""
    root = cache_folder()
    sizes: dict[str, list[int]] = {}
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.suffix != ".lock":
            sizes.setdefault(str(file.parent.relative_to(root)), []).append(file.stat().st_size)
    for folder, each in sizes.items():
        out.print_line(f"{len(each):6,} files {sum(each) / 1e6:10,.1f} MB  {folder}")
    if not sizes:
        out.print_line("cache is empty: the data are bundled, or small enough for each run to read them")
    out.print_line(f"cache folder  {root}  (set SEQLAB_CACHE to change it)")
