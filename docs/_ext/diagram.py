"""The picture of the architecture, drawn from the imports: ``python docs/_ext/diagram.py`` writes it anew.

An arrow goes from a package of the core to one that it imports; arrows that follow from others (A to C, where A to B
and B to C) are left out. The families of plugins name what they import.
"""

import tomllib
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "explain" / "architecture.svg"
FAMILIES = ("seqlab_cells", "seqlab_models", "seqlab_tasks", "seqlab_preprocessing", "seqlab_callbacks")

WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 124, 32, 18, 26, 46
"""Of a box, between boxes and around them, in pixels."""

Edges = Mapping[str, set[str]]


def layers() -> list[list[str]]:
    """Read the rows of packages from import-linter's contract, the top one first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in settings if each["type"] == "layers")
    rows = [[name.strip() for name in row.split(":")] for row in contract["layers"]]
    return [sorted(row, key=len) for row in rows]  # which happens to let the fewest arrows cross


def imports() -> dict[str, set[str]]:
    """Find which package imports which, from the code."""
    graph = grimp.build_graph("seqlab", *FAMILIES, cache_dir=None)
    boxes = [*(name for row in layers() for name in row), *FAMILIES]
    home = {module: box for module in graph.modules if (box := _box(module, boxes))} | {"seqlab": "seqlab"}
    found: dict[str, set[str]] = {box: set() for box in [*boxes, "seqlab"]}
    for module, box in home.items():
        found[box] |= {home[other] for other in graph.find_modules_directly_imported_by(module) if other in home}
    del found["seqlab"]  # its public names, which it looks up when they are asked for
    return {box: others - {box} for box, others in found.items()}


def _box(module: str, boxes: Iterable[str]) -> str | None:
    return next((box for box in boxes if module == box or module.startswith(f"{box}.")), None)


def core(edges: Edges) -> dict[str, set[str]]:
    """Take the core alone, a row of more than two as one box."""
    found: dict[str, set[str]] = {}
    for box, near in edges.items():
        if box not in FAMILIES:
            found.setdefault(joined(box), set()).update(joined(to) for to in near)
    return {box: near - {box} for box, near in found.items()}


def joined(name: str) -> str:
    """Name the box that a package is drawn in: its own, or that of its row."""
    (row,) = (row for row in layers() if name in row)
    return name if len(row) <= 2 else ", ".join(short(each) for each in row)


def short(name: str) -> str:
    """Leave out what all names begin with."""
    return name.removeprefix("seqlab.").removeprefix("seqlab_")


def reduced(edges: Edges) -> dict[str, set[str]]:
    """Leave out what follows from other arrows."""

    def beyond(box: str) -> set[str]:
        return set().union(*({near} | beyond(near) for near in edges[box]), set())

    return {box: {to for to in near if not any(to in beyond(by) for by in near - {to})} for box, near in edges.items()}


def places() -> dict[str, tuple[float, float]]:
    """Give the middle of each box of the core, row by row."""
    found = {}
    for down, packages in enumerate(layers()):
        row = list(dict.fromkeys(map(joined, packages)))
        for across, name in enumerate(row):
            x = EDGE + WIDTH + GAP_X / 2 + (across - (len(row) - 1) / 2) * (WIDTH + GAP_X)
            found[name] = (x, EDGE / 2 + HEIGHT / 2 + down * (HEIGHT + GAP_Y))
    return found


def draw(edges: Edges) -> str:
    """Write the picture as SVG."""
    where = places()
    right = 2 * EDGE + 2 * WIDTH + GAP_X
    width, height = right + 300, max(y for _, y in where.values()) + HEIGHT / 2 + EDGE / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" font-family="system-ui, sans-serif" font-size="13">',
        "<title>Which package imports which: the core on the left, the plugins on the right</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#5a6570"/></marker></defs>',
    ]
    parts += [_arrow(box, to, where) for box, near in reduced(core(edges)).items() for to in sorted(near)]
    parts += [_box_at(name, x, y) for name, (x, y) in where.items()]
    parts += [_family(name, edges[name], right, place) for place, name in enumerate(FAMILIES)]
    return "\n".join([*parts, "</svg>\n"])


def _arrow(box: str, to: str, where: Mapping[str, tuple[float, float]]) -> str:
    (x, y), (to_x, to_y) = where[box], where[to]
    if to_y - y > 1.5 * (HEIGHT + GAP_Y):  # past a row: around it, on the side of the target
        middle = EDGE + WIDTH + GAP_X / 2
        side = -1 if to_x < middle else 1
        x, to_x = x + side * _width(box) / 2, to_x + side * (_width(to) / 2 + 2)
        out = middle + side * (WIDTH + GAP_X / 2 + 50)  # a curve comes to 3/4 of the way there
        line = f"M{x:.0f} {y:.0f} C{out:.0f} {y:.0f} {out:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
    else:
        y, to_y = y + HEIGHT / 2, to_y - HEIGHT / 2 - 2
        middle = (y + to_y) / 2
        line = f"M{x:.0f} {y:.0f} C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
    return f'<path d="{line}" fill="none" stroke="#5a6570" stroke-width="1.4" marker-end="url(#tip)"/>'


def _box_at(name: str, x: float, y: float) -> str:
    width = _width(name)
    return (
        f'<rect x="{x - width / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{width}" height="{HEIGHT}" rx="5"'
        f' fill="#e4f0f8" stroke="#0072b2"/><text x="{x:.0f}" y="{y + 4.5:.1f}" text-anchor="middle"'
        f' fill="#1b1f24">{escape(short(name))}</text>'
    )


def _width(name: str) -> int:
    return 2 * WIDTH + GAP_X if "," in name else WIDTH


def _family(name: str, near: Iterable[str], left: float, place: int) -> str:
    """Draw a family of plugins, and write what it imports: the contracts first, the rest as it stands in the rows."""
    order = [*(box for row in layers() for box in row), "seqlab"]
    named = ", ".join(short(box) for box in sorted(near, key=lambda box: -order.index(box)))
    top = EDGE / 2 + HEIGHT + GAP_Y + place * (2 * HEIGHT + 4)
    return (
        f'<rect x="{left}" y="{top:.0f}" width="280" height="{2 * HEIGHT - 12}" rx="5" fill="#fdf0e3"'
        f' stroke="#d55e00"/><text x="{left + 12}" y="{top + 21:.0f}" fill="#1b1f24">{escape(name)}</text>'
        f'<text x="{left + 12}" y="{top + 40:.0f}" fill="#4a5560" font-size="11.5">imports {escape(named)}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), "utf-8")
