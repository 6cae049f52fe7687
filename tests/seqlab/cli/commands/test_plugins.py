"""``plugins``: one line per plugin, within the width of the terminal."""

import json

import pytest

from seqlab.cli.commands.plugins import table

LONG = "Gated recurrent unit, reset after the product (Cho et al. 2014), and a great deal more that fits no terminal"
CAUSE = "importing others gave ModuleNotFoundError: No module named 'others' " * 2
ROWS = [
    {"kind": kind, "name": name, "distribution": who, "version": "1.2", "description": LONG, "problem": problem}
    for kind, name, who, problem in (
        ("cell", "gru", "seqlab", ""),
        ("cell", "ugrnn", "seqlab-ugrnn", ""),
        ("cell", "tiny", "others", CAUSE),
        ("task", "names", "seqlab", ""),
    )
]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_a_plugin_is_one_line_that_fits(width):
    lines = list(table(ROWS, width))
    plugins = [line for line in lines if line.startswith("  ")]
    assert len(plugins) == len(ROWS)
    for line, row in zip(plugins, ROWS, strict=True):
        if row["problem"]:
            assert row["problem"] in line
            continue
        assert len(line) <= width
        assert (f"[{row['distribution']} 1.2] " in line) == (row["distribution"] != "seqlab")
        shown = line.split("  ")[-1].strip().removeprefix("[seqlab-ugrnn 1.2] ").removesuffix("…")
        assert LONG.startswith(shown)
        assert line.endswith("…") == (shown not in (LONG, LONG.partition(" (")[0]))
        assert shown == LONG or LONG[len(shown)] in " ,;:("  # whole words
    assert [line for line in lines if line and not line.startswith("  ")][1:] == ["cell", "task"]
    assert sum("seqlab 1.2" in line for line in lines) == 1


@pytest.mark.parametrize("columns", ["80", "120", None])
def test_the_installed_plugins_fit(cli, monkeypatch, columns):
    """One line each, in as many columns as there are, or 80 in a pipe."""
    monkeypatch.delenv("COLUMNS", raising=False)
    rows = json.loads(cli("plugins", "--json").out)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    lines = cli("plugins").out.splitlines()
    entries = [line for line in lines if line.startswith("  ")]
    assert [line.split()[0] for line in entries] == [row["name"] for row in rows]
    assert max(map(len, lines)) <= int(columns or 80)


@pytest.mark.parametrize("kind", ["preprocessing", "step", "callback"])
def test_no_description_of_our_own_is_cut(cli, monkeypatch, kind):
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in cli("plugins", kind).out
