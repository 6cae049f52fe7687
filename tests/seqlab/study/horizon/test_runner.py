"""The table that a horizon search prints."""

import io

import pytest
from rich.console import Console

from seqlab.study.horizon.runner import show_search


def searched(horizon, protocol):
    return {
        "task": "first", "label": "lstm", "protocol": protocol, "horizon": horizon, "lower": 5394, "upper": 10000,
        "finished": True, "generalises": 53940, "steps": 1234.0, "seconds": 20.0, "learning_rate": 0.003,
        "parameters": 21384, "cause": "budget", "budget_limited": False, "because": "time", "intervention": None,
        "trials": [],
    }  # fmt: skip


@pytest.mark.parametrize("protocol", ["fixed", "curriculum"])
@pytest.mark.parametrize(("horizon", "shown"), [(999, "999"), (10000, "10,000"), (None, "none")])
def test_the_table_groups_digits(protocol, horizon, shown):
    record = {"runs": 3, "grid_runs": 3, "rows": [searched(horizon, protocol)]}
    out = io.StringIO()
    show_search(record, Console(file=out, width=160))
    (row,) = (line for line in out.getvalue().splitlines() if line.startswith("│ first"))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[3 if protocol == "curriculum" else 2] == shown
    assert "5,394" in row
    assert "10000" not in row


@pytest.mark.parametrize(("rows", "lines"), [(8, 8), (240, 1)])
def test_many_causes_are_left_to_the_report(rows, lines):
    record = {"runs": 3, "grid_runs": 3, "rows": [searched(999, "fixed")] * rows}
    out = io.StringIO()
    show_search(record, Console(file=out, width=160))
    after = out.getvalue().rpartition("┘")[2].split("\n")
    assert len([line for line in after if line]) == lines
