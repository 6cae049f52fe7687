"""``data`` and ``fetch``: the data of a run, shown, or cached for runs without a network."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlab.cli.arguments import add_overrides, parse_overrides, refuse_sweep
from seqlab.cli.output import Output, print_json
from seqlab.cli.parser import Parser, integer
from seqlab.contracts.task import task_report
from seqlab.io.cache import cache_folder
from seqlab.io.formatting import shell_command
from seqlab.plugins.hydra_source import using_sources


def data(arguments: list[str]) -> int:
    """Print counts, samples, class shares, duplicates and dropped examples."""
    parser = Parser("data", description="Show the data of a run with the same overrides: seqlab data task=textclf")
    add_overrides(parser, "as for training")
    parser.add_argument("--examples", type=integer(0), default=3, help="number of texts to show (%(default)s)")
    parser.add_json()
    args = parser.parse(arguments)
    from seqlab.config.compose import compose
    from seqlab.config.schema import plain_config
    from seqlab.data.summary import data_summary, proposed_overrides
    from seqlab.training.session import prepare_data

    command = parse_overrides(args)
    refuse_sweep(command.overrides)
    with using_sources(command.sources):
        config = plain_config(compose(command.overrides))
        task, data = prepare_data(config)
    record = data_summary(data, args.examples)
    with tempfile.TemporaryDirectory() as folder:
        record["notes"] += task_report(task, {}, Path(folder)).notes
    proposed = proposed_overrides(record, command.overrides, config["task"])
    record["command"] = shell_command(*command.sources.arguments, *proposed)
    if args.json:
        print_json(record)
    else:
        _show_data(record, Output())
    return 0


def _show_data(record: Mapping[str, Any], out: Output) -> None:
    splits = record["splits"]
    out.print_table(["", *splits], _split_rows(splits), right=tuple(splits), title="splits")
    if vocabulary := record.get("vocabulary"):
        out.print_line(f"{vocabulary['size']:,} token ids: {' '.join(map(repr, vocabulary['first']))} ...")
    if classes := record.get("classes"):
        names = tuple(next(iter(classes.values())))
        counts = record["class_counts"]
        rows = (
            [label, *(f"{counts[label][name]:,} ({share:.1%})" for name, share in shares.items())]
            for label, shares in classes.items()
        )
        out.print_table(["", *names], rows, right=names, title="classes")
    out.print_line(f"examples of all splits: {sum(facts['examples'] for facts in splits.values()):,}")
    for line in _duplicates(record.get("duplicates", {})):
        out.print_line(line)
    for example in record.get("examples", []):
        label = f", {example['label']!r}" if "label" in example else ""
        out.rule(f"{example['tokens']} tokens{label}", align="left", style="dim")
        out.print_line(f"text   {example['text']!r}")
        out.print_line(f"tokens {example['read_as']!r}")
        out.print_line(f"ids    {' '.join(map(str, example['ids']))} ...")
    for dropped in record.get("dropped", []):
        out.print_line(f"dropped ({dropped['reason']}): {dropped['text']!r}")
    for note in record.get("notes", []):
        out.print_line(note)
    out.print_line(f"train with  {record['command']}")


def _duplicates(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield the counts of duplicates, those before and after preprocessing in one line."""
    after = " after preprocessing"
    for name, count in counts.items():
        if (same := counts.get(f"{name}{after}")) is not None:
            yield f"duplicates {name}: {count:,} ({same:,}{after})"
        elif name.removesuffix(after) not in counts or not name.endswith(after):
            yield f"duplicates {name}: {count:,}"


def _split_rows(splits: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """Yield a row for each statistic, with a cell for each split."""
    rows: dict[str, dict[str, str]] = {}
    for split, facts in splits.items():
        for name, value in facts.items():
            nested = value if isinstance(value, Mapping) else {"": value}
            for key, each in nested.items():
                shown = f"{each:.2%}" if isinstance(each, float) else f"{each:,}"
                rows.setdefault(f"{name} {key}".strip().replace("_", " "), {})[split] = shown
    for name, values in rows.items():
        yield [name, *(values.get(split, "") for split in splits)]


def fetch(arguments: list[str]) -> int:
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
    """Compose the configs of a run or sweep; return one for each data set, preprocessing and initialisation."""
    from seqlab.config.compose import compose_all
    from seqlab.config.schema import plain_config
    from seqlab.sweeps.overrides import expand, override_key
    from seqlab.sweeps.plan import sweeper_params

    kept = [word for word in overrides if not override_key(word).startswith(("hydra.", "hydra/"))]
    found: dict[str, dict[str, Any]] = {}
    for composed in compose_all(expand(kept, sweeper_params(overrides))):
        config = plain_config(composed)
        source = [config["task"], config["preprocessing"], config.get("init_from")]
        found.setdefault(json.dumps(source, default=str), config)
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
