"""``plugins``: one line a plugin that fits the terminal."""

import json

import pytest

from seqlab.cli.commands.plugins import table

LONG = "Gated recurrent unit, reset after the product (Cho et al. 2014), and a great deal more that fits no terminal"
ROWS = [
    {"kind": kind, "name": name, "distribution": who, "version": "1.2", "description": LONG, "problem": problem}
    for kind, name, who, problem in (
        ("cell", "gru", "seqlab", ""),
        ("cell", "mgu", "seqlab-mgu", ""),
        ("cell", "tiny", "others", "importing others gave ModuleNotFoundError: No module named 'others' " * 2),
        ("task", "names", "seqlab", ""),
    )
]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200, None])
def test_a_plugin_is_one_line_that_fits(width):
    lines = table(ROWS, width)
    plugins = [line for line in lines if line.startswith("  ")]
    assert len(plugins) == len(ROWS)
    for line, row in zip(plugins, ROWS, strict=True):
        if row["problem"]:
            assert row["problem"] in line
            continue
        assert width is None or len(line) <= width
        shown = line.split("  ")[-1].strip().removesuffix("…")
        assert LONG.startswith(shown)
        assert line.endswith("…") == (shown != LONG)
        assert shown == LONG or LONG[len(shown)] in " ,;:(" or width < 60  # whole words, where there is room for one
    assert [line for line in lines if line and not line.startswith("  ")][1:] == ["cell", "task"]
    assert "mgu (seqlab-mgu 1.2)" in "\n".join(lines)


@pytest.mark.parametrize("columns", ["80", "120", None])
def test_what_is_installed_fits_the_terminal(cli, monkeypatch, columns):
    """All of it: every name once, in its kind, and whole descriptions in a pipe."""
    monkeypatch.delenv("COLUMNS", raising=False)
    rows = json.loads(cli("plugins", "--json").out)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    lines = cli("plugins").out.splitlines()
    for row in rows:
        assert sum(line.startswith(f"  {row['name']} ") for line in lines) >= 1
    assert len([line for line in lines if line.startswith("  ")]) == len(rows)
    if columns:
        assert max(map(len, lines)) <= int(columns)
    else:
        assert "…" not in "".join(lines)
