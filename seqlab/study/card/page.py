"""Page of a card: sections, tables and figures of ``card.json``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.io.atomic import write_text
from seqlab.io.safe_io import escape_control
from seqlab.study.card.card import chosen_bits
from seqlab.study.card.protocol import Protocol
from seqlab.study.plotting import GREY, WIDTH, distance_axis, label_axes, legend, new_figure, styles
from seqlab.study.report.document import (
    Document,
    Field,
    FigureBlock,
    Section,
    Table,
    Text,
    format_number,
    html,
    inline_svg,
    render_svg,
)
from seqlab.study.report.figures import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = "card.html"


def write_page(record: Mapping[str, Any], protocol: Protocol, folder: Path) -> Path:
    """Write the page of a card."""
    document = compose(record, protocol)
    figures = {picture.name: inline_svg(picture, render_svg(picture)) for picture in document.pictures}
    write_text(folder / PAGE, escape_control(html(document, figures)))
    return folder / PAGE


def compose(record: Mapping[str, Any], protocol: Protocol) -> Document:
    """Compose the page of a card."""
    sections = [
        _header(record),
        *_reach(record),
        *(section for part in record["parts"] for section in _part(part, record)),
        *_flow(record),
        *_cost(record),
        *_conformance(record),
        *_expressivity(record),
        _setup(record, protocol),
    ]
    return Document(f"Card of {record['cell']}, protocol {record['protocol']}", sections)


def score(found: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return a mean and its interval for two columns."""
    if found is None:
        return "", ""
    if found["low"] is None or found["high"] is None:
        return format_number(found["mean"], 3), ""
    return format_number(found["mean"], 3), f"{format_number(found['low'], 3)} to {format_number(found['high'], 3)}"


def _header(record: Mapping[str, Any]) -> Section:
    size = "" if record["hidden_size"] is None else f"{record['hidden_size']:,} units, "
    facts = (
        f"{record['cell']} of {record['owner']}: {size}{record['parameters']:,} parameters (budget"
        f" {record['parameter_budget']:,}), a state of {record['state_size']:,} numbers"
        f" ({record['state_bits']:,} bits)."
    )
    section = Section("Results", blocks=[Text(facts)])
    section.blocks += [Text(line, is_result=True) for line in _results(record)]
    if missing := list(_missing(record)):
        section.blocks.append(Table(("missing", "reason"), tuple(missing)))
    if not record["finished"]:
        section.blocks.append(Text(f"Not finished; to go on: {record['command']}"))
    return section


def _results(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each part."""
    reach = (record["reach"] or {}).get("rows", [])
    for protocol, lengths in (("fixed", "at one length"), ("curriculum", "on lengths that grow")):
        if found := [f"{row['task']} {row['horizon'] or 'none'}" for row in reach if row["protocol"] == protocol]:
            yield f"Horizon, trained {lengths}: {', '.join(found)}."
    for part in record["parts"]:
        rows = [row for row in part["rows"] if row.get("score")]
        if part["kind"] == "bits":
            if (bits := chosen_bits(part)) is not None:
                share = bits["mean"] / record["state_bits"] if record["state_bits"] else 0
                yield f"{part['title']}: recalls {bits['mean']:.1f} bits, {share:.1%} of the bits of its state."
        elif rows:
            solved = [row["label"] for row in rows if row["solved"] * 3 >= 2 * len(row["runs"])]
            others = ", ".join(row["label"] for row in rows if row["label"] not in solved)
            if not solved:
                yield f"{part['title']}: solves none of {others}."
            else:
                yield f"{part['title']}: solves {', '.join(solved)}" + (f"; not {others}." if others else ".")


def _missing(record: Mapping[str, Any]) -> Iterator[tuple[Field, ...]]:
    for name in (record["reach"] or {}).get("missing", []):
        yield f"reach: {name}", f"task={name} is not installed"
    for row in (record["reach"] or {}).get("rows", []):
        if row["failed"]:
            yield f"reach: {row['task']}, {row['protocol']}", f"{row['failed']:,} of {row['trials']:,} runs failed"
    for part in record["parts"]:
        for row in part["rows"]:
            if row["missing"]:
                yield f"{part['title']}: {row['label']}", row["missing"]
            for run in row["runs"]:
                if run["state"] != "done" and not row["missing"]:
                    yield f"{part['title']}: {row['label']}, seed {run['seed']}", run["cause"] or run["state"]


def _reach(record: Mapping[str, Any]) -> Iterator[Section]:
    reach = record["reach"]
    if not reach or not reach["rows"]:
        return
    rows = tuple(
        (
            row["task"],
            row["protocol"],
            format_number(row["horizon"]) or "none",
            _interval(row),
            format_number(row["generalises"]),
            row["cause"],
        )
        for row in reach["rows"]
    )
    head = ("task", "lengths", "horizon", "interval", "still solves", "likely cause")
    text = (
        "Horizon: the largest length that 2/3 of the seeds solve on validation. Interval: of fixed lengths, from the"
        " largest that all seeds solve to the smallest that none solves; of lengths that grow (curriculum), the"
        " smallest and the largest that a seed reaches. Still solves: the longest tested length beyond its own."
    )
    causes = (Text(f"{row['task']}, {row['protocol']}: {row['because']}.") for row in reach["rows"])
    yield Section("Reach", blocks=[Table(head, rows), *causes, Text(text)])


def _interval(row: Mapping[str, Any]) -> str:
    if row["lower"] is None and row["upper"] is None:
        return ""
    return f"{format_number(row['lower']) or 'none'} to {format_number(row['upper']) or 'not reached'}"


def _part(part: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Section]:
    rows = [row for row in part["rows"] if row.get("score")]
    if not rows:
        return
    section = Section(part["title"], blocks=[Text(part["text"])])
    if part["kind"] == "bits":
        section.blocks += [_bits_table(rows, record), Text(_BITS)]
    elif part["kind"] == "lengths":
        section.blocks += [_lengths_table(part, rows), FigureBlock(_lengths_picture(part, rows))]
    else:
        head = ("", "metric", "score", "interval", "baseline", "seeds that solve")
        table = ((row["label"], row["metric"], *score(row["score"]), *_baseline(row)) for row in rows)
        section.blocks.append(Table(head, tuple(table)))
    yield section


_BITS = (
    "Recalled: a lower bound on the information about the input, its entropy minus the model's cross-entropy of the"
    " symbols to write (Barber & Agakov 2003), mean over seeds; validation chooses the number that stands above. A"
    " state of float32 numbers has 32 bits each."
)


def _baseline(row: Mapping[str, Any]) -> tuple[str, str]:
    return format_number(row["baseline"], 3), f"{row['solved']} of {len(row['runs'])}"


def _bits_table(rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Table:
    head = ("", "bits asked", "recalled", "interval", "share of the state", "accuracy", "baseline", "seeds that solve")
    bits = max(1, record["state_bits"])
    return Table(
        head,
        tuple(
            (
                row["label"],
                format_number(row["asked"]),
                *score(row["bits"]),
                f"{row['bits']['mean'] / bits:.2%}" if row["bits"] else "",
                score(row["score"])[0],
                *_baseline(row),
            )
            for row in rows
        ),
    )


def _lengths_table(part: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Table:
    trained = part["trained"]
    at = f"score at {trained}"
    head = ("task", "metric", at, "interval", "mean beyond", "interval", "baseline", f"solve {trained}")
    table = []
    for row in rows:
        own: dict[str, Any] = next((each for each in row["lengths"] if each["length"] == trained), {})
        counts = (format_number(own.get("baseline"), 3), f"{row['solved']} of {len(row['runs'])}")
        table.append((row["label"], row["metric"], *score(own.get("score")), *score(row["beyond"]), *counts))
    return Table(head, tuple(table))


def _lengths_picture(part: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw scores against the test length, a panel for each metric; dotted: the baseline."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    figure = new_figure(WIDTH, 1.0 + 2.4 * len(metrics))
    panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
    looks = styles([row["label"] for row in rows])
    for axes, metric in zip(panels, metrics, strict=True):
        for row in rows:
            if row["metric"] == metric:
                _draw_lengths(axes, row, looks[row["label"]].line_options())
        distance_axis(axes, part["tested"])
        axes.axvline(part["trained"], color=GREY, linewidth=0.8)
        label_axes(axes, "test length (steps)", metric)
    for row in rows:
        if row["metric"] != metrics[-1]:  # one legend for all panels
            panels[-1].errorbar([], [], label=row["label"], **looks[row["label"]].line_options())
    legend(figure, panels[-1])
    caption = (
        f"{part['title']}: score against test length, with 95 % intervals; dotted: baseline; grey: longest trained."
    )
    return Picture(f"card_{part['name']}", caption, figure)


def _draw_lengths(axes: "Axes", row: Mapping[str, Any], look: dict[str, Any]) -> None:
    points = [(each["length"], each["score"], each["baseline"]) for each in row["lengths"] if each["score"]]
    x = [length for length, _, _ in points]
    y = [found["mean"] for _, found, _ in points]
    ends = [
        [abs(found["mean"] - (found["mean"] if found[end] is None else found[end])) for _, found, _ in points]
        for end in ("low", "high")
    ]
    axes.errorbar(x, y, yerr=ends, label=row["label"], elinewidth=0.8, capsize=2, **look)
    axes.plot(x, [baseline for _, _, baseline in points], linestyle=":", linewidth=1, color=look["color"])


def _flow(record: Mapping[str, Any]) -> Iterator[Section]:
    flow = (record["reach"] or {}).get("flow")
    if not flow or not flow["curves"]:
        return
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    states = list(dict.fromkeys(curve["state"] for curve in flow["curves"]))
    looks = styles([f"state {state}" for state in states])
    for curve in flow["curves"]:
        pairs = [pair for pair in curve["ratios"] if pair[1] > 1e-30]
        label = f"state {curve['state']}"
        look = {**looks[label].line_options(), "marker": None, "linestyle": "--" if curve["when"] == "start" else "-"}
        axes.plot([pair[0] for pair in pairs], [pair[1] for pair in pairs], label=f"{label}, {curve['when']}", **look)
    axes.set_yscale("log")
    label_axes(axes, "steps back", "gradient norm / at the last step")
    legend(figure, axes)
    caption = (
        f"Gradient of the loss to the state, at the start and the end of training on {flow['task']} at"
        f" {flow['distance']} steps, averaged over sequences."
    )
    yield Section("Gradient flow", blocks=[FigureBlock(Picture("card_flow", caption, figure))])


def _cost(record: Mapping[str, Any]) -> Iterator[Section]:
    if not (cost := record["cost"]):
        return
    shape, baseline = cost["shape"], cost["baseline"]
    rows = tuple(
        (
            each["name"],
            format_number(each["milliseconds"], 3),
            f"{each['steps_per_second']:,.0f}",
            format_number(each["ratio"], 3),
            f"{each['low']:.2f} to {each['high']:.2f}",
        )
        for each in cost["kernels"]
    )
    text = (
        f"Training steps of one layer with {cost['parameters']:,} parameters in float32 on one thread:"
        f" {shape['rows']} sequences of {shape['steps']} steps with {shape['inputs']} features,"
        f" {shape['rounds']} rounds in turns. {baseline['name']} has {baseline['hidden_size']} units,"
        f" {baseline['parameters']:,} parameters. Times depend on the machine"
        + ("." if cost["load"] is None else f", and its load: {cost['load']:.1f} processes wanted a core before.")
    )
    head = ("kernel", "ms", "steps per second", f"speed / {baseline['name']}", "range")
    yield Section("Cost", blocks=[Table(head, rows), Text(text)])


def _conformance(record: Mapping[str, Any]) -> Iterator[Section]:
    if (checks := record["conformance"]) is None:
        return
    counts = {kind: sum(each["result"] == kind for each in checks) for kind in ("passed", "failed", "skipped")}
    section = Section(
        "Conformance", blocks=[Text(", ".join(f"{count} {kind}" for kind, count in counts.items()) + ".")]
    )
    rows = [(each["check"].replace("_", " "), each["result"], each["detail"]) for each in checks]
    if shown := tuple(row for row in rows if row[1] != "passed"):
        section.blocks.append(Table(("test", "result", "reason"), shown))
    yield section


def _expressivity(record: Mapping[str, Any]) -> Iterator[Section]:
    spectrum = record["spectrum"]
    if not spectrum or not (found := spectrum["measured"]):
        return
    yes = {True: "yes", False: "no"}
    rows: tuple[tuple[Field, ...], ...] = (
        ("eigenvalues", found["kind"]),
        (
            "positive, negative, complex, zero",
            ", ".join(f"{found[kind]:.0%}" for kind in ("positive", "negative", "complex", "zero")),
        ),
        ("real parts", f"{found['smallest']:.3g} to {found['largest']:.3g}"),
        ("largest modulus", f"{found['radius']:.3g}"),
        ("linear in the state", yes[found["linear"]]),
        ("diagonal", yes[found["diagonal"]]),
        ("successive ones commute", yes[found["commuting"]]),
    )
    text = (
        f"Measured: Jacobians of the state by the state before, {found['samples']} of them, of a small cell"
        f" ({found['state_size']} numbers) with initial and with random weights, on random inputs."
    )
    theory = tuple(
        ("applies" if each["applies"] else "not shown to apply", each["theorem"], each["reason"], each["source"])
        for each in spectrum["theory"]
    )
    note = (
        "Theory, as far as the sampled Jacobians meet its conditions. It says what no weights can compute at every"
        " length; state tracking above says what training found."
    )
    head = ("", "theorem", "because", "source")
    yield Section("Expressivity", blocks=[Text(text), Table(("", ""), rows), Text(note), Table(head, theory)])


def _setup(record: Mapping[str, Any], protocol: Protocol) -> Section:
    cut = sum(run.get("cut", False) for part in record["parts"] for row in part["rows"] for run in row["runs"])
    versions = ", ".join(f"{name} {each}" for name, each in record["versions"].items() if name != "platform")
    lines = [
        f"Protocol {record['protocol']} ({record['protocol_digest']}): {record['seeds']} seeds, learning rate"
        f" {_rate(record['learning_rate'], protocol)}, one thread a run. Runs end by their number of updates."
        + f" The clock ended {cut} of them before: their scores depend on the machine."
        * (cut > 0),
        "Intervals: 95 %, Student's over seeds; of shares also Wilson's over the test examples; within the limits of"
        " the metric. Scores are of the test split; validation decides what is solved.",
        f"{record['hardware']['cpu']}, {record['hardware']['cpu_threads']} threads; {versions}.",
        f"Command: {record['command']}",
    ]
    return Section("Setup", blocks=[Text(line) for line in lines])


def _rate(found: Mapping[str, Any] | None, protocol: Protocol) -> str:
    """Return the learning rate, and how it was chosen."""
    if found is None:
        return "not chosen yet"
    if not protocol.pilots:
        return f"{found['chosen']:g}"
    if not (count := len(found["rows"])):
        return f"{found['chosen']:g}, the first of the protocol: none of the tasks that choose one is installed"
    means = [sum(row["progress"][place] for row in found["rows"]) / count for place in range(len(found["tried"]))]
    tried = ", ".join(f"{rate:g} ({mean:.2f})" for rate, mean in zip(found["tried"], means, strict=True))
    tasks = ", ".join(row["label"] for row in found["rows"])
    return (
        f"{found['chosen']:g}, of {tried}: the one whose short runs ({tasks}) come nearest to the best possible"
        " validation score (0: baseline, 1: best, or the task is solved)"
    )
