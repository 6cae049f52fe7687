"""``data task=...``: what will be trained on, before any training."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.cli.arguments import add_config_dir, parse, with_config_dir
from seqlab.cli.parser import Parser
from seqlab.errors import UserError


def main(arguments: list[str]) -> int:
    """Print counts, samples, class balance, duplicates and what was dropped."""
    parser = Parser(
        "data",
        description="Show what a run with the same words would train on, such as: seqlab data task=textclf",
    )
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for training")
    add_config_dir(parser)
    parser.add_argument("--examples", type=int, default=3, help="texts to show (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    asked = parser.parse_intermixed_args(arguments)
    if asked.examples < 0:
        raise UserError(f"--examples must be >= 0, got {asked.examples}")
    from seqlab.config.compose import compose
    from seqlab.config.schema import plain_config
    from seqlab.data.summary import data_summary
    from seqlab.plugins.hydra_source import using_sources
    from seqlab.training.session import prepare_data

    words = parse(with_config_dir(asked))
    with using_sources(words.sources):
        task, data = prepare_data(plain_config(compose(words.overrides)))
    record = data_summary(data, asked.examples)
    with tempfile.TemporaryDirectory() as folder:
        record["notes"] += task.report({}, Path(folder)).notes
    if asked.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return 0
    show(record, Console(highlight=False))
    return 0


def show(record: Mapping[str, Any], console: Console) -> None:
    """Print a survey as tables."""
    console.print(_splits(record["splits"]))
    if vocabulary := record.get("vocabulary"):
        console.print(f"{vocabulary['size']:,} token ids: {escape(' '.join(map(repr, vocabulary['first'])))} ...")
    if record.get("classes"):
        console.print(_classes(record["classes"]))
    console.print(f"examples of all splits: {sum(facts['examples'] for facts in record['splits'].values()):,}")
    for line in _duplicates(record.get("duplicates", {})):
        console.print(line)
    for example in record.get("examples", []):
        console.rule(f"{example['tokens']} tokens", align="left", style="dim")
        console.print(f"text   {escape(repr(example['text']))}", soft_wrap=True)
        console.print(f"read   {escape(repr(example['read_as']))}", soft_wrap=True)
        console.print(f"ids    {' '.join(map(str, example['ids']))} ...", soft_wrap=True)
    for dropped in record.get("dropped", []):
        console.print(f"dropped ({escape(dropped['reason'])}): {escape(repr(dropped['text']))}", soft_wrap=True)
    for note in record.get("notes", []):
        console.print(note, markup=False, soft_wrap=True)


def _duplicates(counts: Mapping[str, int]) -> Iterator[str]:
    """Write the counts of duplicates, those before and after preprocessing in one line."""
    after = " after preprocessing"
    for what, count in counts.items():
        if (same := counts.get(f"{what}{after}")) is not None:
            yield f"duplicates {what}: {count:,} ({same:,}{after})"
        elif what.removesuffix(after) not in counts or not what.endswith(after):
            yield f"duplicates {what}: {count:,}"


def _splits(statistics: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="splits", title_justify="left")
    table.add_column("")
    for split in statistics:
        table.add_column(split, justify="right")
    rows: dict[str, dict[str, str]] = {}
    for split, facts in statistics.items():
        for name, value in facts.items():
            nested = value if isinstance(value, Mapping) else {"": value}
            for key, each in nested.items():
                rows.setdefault(f"{name} {key}".strip().replace("_", " "), {})[split] = _shown(each)
    for name, values in rows.items():
        table.add_row(name, *(values.get(split, "") for split in statistics))
    return table


def _shown(value: Any) -> str:
    return f"{value:.2%}" if isinstance(value, float) else f"{value:,}"


def _classes(classes: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title="classes", title_justify="left")
    table.add_column("")
    for split in next(iter(classes.values())):
        table.add_column(split, justify="right")
    for label, shares in classes.items():
        table.add_row(escape(label), *(f"{share:.1%}" for share in shares.values()))
    return table
