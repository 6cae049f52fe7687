"""``data``: statistics and samples of the data that a run would train on."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqlab.cli.arguments import add_overrides, parse_overrides, refuse_sweep
from seqlab.cli.output import Output, print_json
from seqlab.cli.parser import Parser, integer
from seqlab.contracts.task import task_report


def main(arguments: list[str]) -> int:
    """Print counts, samples, class shares, duplicates and dropped examples."""
    parser = Parser("data", description="Show the data of a run with the same overrides: seqlab data task=textclf")
    add_overrides(parser, "as for training")
    parser.add_argument("--examples", type=integer(0), default=3, help="number of texts to show (%(default)s)")
    parser.add_json()
    args = parser.parse(arguments)
    from seqlab.config.compose import compose
    from seqlab.config.schema import plain_config
    from seqlab.data.summary import data_summary
    from seqlab.plugins.hydra_source import using_sources
    from seqlab.training.session import prepare_data

    command = parse_overrides(args)
    refuse_sweep(command.overrides)
    with using_sources(command.sources):
        task, data = prepare_data(plain_config(compose(command.overrides)))
    record = data_summary(data, args.examples)
    with tempfile.TemporaryDirectory() as folder:
        record["notes"] += task_report(task, {}, Path(folder)).notes
    if args.json:
        print_json(record)
    else:
        _show(record, Output())
    return 0


def _show(record: Mapping[str, Any], out: Output) -> None:
    splits = record["splits"]
    out.print_table(["", *splits], _split_rows(splits), right=tuple(splits), title="splits")
    if vocabulary := record.get("vocabulary"):
        out.print_line(f"{vocabulary['size']:,} token ids: {' '.join(map(repr, vocabulary['first']))} ...")
    if classes := record.get("classes"):
        names = tuple(next(iter(classes.values())))
        rows = ([label, *(f"{share:.1%}" for share in shares.values())] for label, shares in classes.items())
        out.print_table(["", *names], rows, right=names, title="classes")
    out.print_line(f"examples of all splits: {sum(facts['examples'] for facts in splits.values()):,}")
    for line in _duplicates(record.get("duplicates", {})):
        out.print_line(line)
    for example in record.get("examples", []):
        out.rule(f"{example['tokens']} tokens", align="left", style="dim")
        out.print_line(f"text   {example['text']!r}")
        out.print_line(f"tokens {example['read_as']!r}")
        out.print_line(f"ids    {' '.join(map(str, example['ids']))} ...")
    for dropped in record.get("dropped", []):
        out.print_line(f"dropped ({dropped['reason']}): {dropped['text']!r}")
    for note in record.get("notes", []):
        out.print_line(note)


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
