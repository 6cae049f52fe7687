"""Sweep folders to report on, and a reader of the pages."""

import json
from html.parser import HTMLParser

from seqlab.study.report.document import html
from seqlab.study.report.figures import aggregate
from seqlab.study.report.reading import collect
from seqlab.study.report.runs import label_runs
from seqlab.study.report.writer import compose
from seqlab.sweeps import ledger


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def grid(record, cells=("rnn", "gru"), distances=(4, 8, 16), seeds=(0, 1), **settings):
    """Runs that solve the task up to a distance that depends on the cell."""
    far = {"rnn": 4, "gru": 8, "lstm": 16}
    return [
        record(cell, at, seed, 1.0 if at <= far[cell] else 0.1 + seed / 50, **settings)
        for cell in cells
        for at in distances
        for seed in seeds
    ]


def horizon_of(folder, label="gru", budget_limited=True):
    """Write ``horizon.json`` for the runs of one cell."""
    done = {entry.name: json.loads((folder / entry.name / "results.json").read_text())["config"]
            for entry in ledger.read_entries(folder) if entry.state == "done"}  # fmt: skip
    trials = [
        {"distance": config["task"]["sequence_length"], "run": name, "seed": config["seed"]}
        for name, config in done.items()
        if config["cell"]["name"] == label
    ]
    row = {
        "label": label,
        "words": [f"cell={label}"],
        "task": "first",
        "task_words": ["task=first"],
        "horizon": 12,
        "lower": 10,
        "upper": 14,
        "budget_limited": budget_limited,
        "learning_rate": 0.003,
        "parameters": 1234,
        "hidden_size": 8,
        "state_size": 8,
        "cause": "gradient",
        "because": "of the gradient 1e-9 is left at 14 steps back.",
        "intervention": {"text": "a larger forget bias", "command": "python -m seqlab cell.forget_bias=5"},
        "trials": trials,
    }
    (folder / "horizon.json").write_text(
        json.dumps({"schema": 1, "rows": [row], "runs": 6, "grid_runs": 24, "finished": True, "settings": {}})
    )


def flow_of(folder, decay=0.5, steps=(1, 50), product=True):
    """Write a gradient that falls by a factor per step, with an equal product and a bound ten times as large."""
    lines = ["step,layer,direction,state,distance,norm,product,bound,forget,terms"]
    for step in steps:
        for back in range(8):
            norm = 3 * decay**back
            formulas = f"{norm},{10 * norm}" if product else ","
            lines.append(f"{step},0,forward,h,{back},{norm},{formulas},,")
    (folder / "curves").mkdir(exist_ok=True)
    (folder / "curves" / "gradient_flow.csv").write_text("\n".join(lines) + "\n")
    (folder / "curves" / "saturation.csv").write_text("step,layer,direction,gate,low,high\n50,0,forward,z,0.25,0.5\n")


def curve_of(folder, values=(0.1, 0.4, 0.9)):
    lines = ["step,valid/accuracy", *(f"{10 * at},{value}" for at, value in enumerate(values))]
    (folder / "curves").mkdir(exist_ok=True)
    (folder / "curves" / "metrics.csv").write_text("\n".join(lines) + "\n")


def points_of(folder):
    return aggregate(label_runs(collect([folder]).runs))


def page_of(*folders, **options):
    """Return the text of a page without drawing its figures, which takes the longest."""
    document, _ = compose(folders, **options)
    return Page(html(document, {picture.name: "" for picture in document.pictures})).text


def complete(lay, record):
    """Write a sweep with everything a report can show."""
    folder = lay("full", grid(record), ["never"])
    for entry in ledger.read_entries(folder):
        if entry.state == "done":
            curve_of(folder / entry.name)
            flow_of(folder / entry.name)
    with ledger.run_status(folder / "bad", ["cell=<b>", "seed=9"]) as page:
        page.update(state="failed", cause="out of <script>memory</script>")
    return folder
