"""Diagram of the architecture, drawn from the imports: ``python docs/_ext/diagram.py`` writes it.

An arrow points from a package of the core to one that it imports; transitive arrows are left out. Each plugin family
lists what it imports.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "explain" / "architecture.svg"
FAMILIES = ("seqlab_cells", "seqlab_models", "seqlab_tasks", "seqlab_preprocessing", "seqlab_callbacks")

WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 124, 32, 18, 26, 46
"""Size of a box, gaps between boxes and margin, in pixels."""
FAMILY_WIDTH, FAMILY_HEIGHT = 310, 52

Edges = Mapping[str, set[str]]
Places = Mapping[str, tuple[float, float]]


def layers() -> list[list[str]]:
    """Return the rows of packages of import-linter's layers contract, top first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    contract = next(each for each in contracts if each["type"] == "layers")
    rows = [re.findall(r"[\w.]+", row) for row in contract["layers"]]
    return [sorted(row, key=len) for row in rows]  # this order happens to cross the fewest arrows


def imports() -> dict[str, set[str]]:
    """Return the packages that each package imports."""
    graph = grimp.build_graph("seqlab", *FAMILIES, cache_dir=None)
    boxes = [*(name for row in layers() for name in row), *FAMILIES]
    home = {module: box for module in graph.modules for box in boxes if f"{module}.".startswith(f"{box}.")}
    home["seqlab"] = "seqlab"
    found: dict[str, set[str]] = {box: set() for box in boxes}
    for module, box in home.items():
        if box in found:  # not seqlab/__init__.py, which imports its public names on access
            found[box] |= {home[other] for other in graph.find_modules_directly_imported_by(module) if other in home}
            found[box].discard(box)
    return found


def short(name: str) -> str:
    """Remove the common prefix of a package name."""
    return name.removeprefix("seqlab.").removeprefix("seqlab_")


def reduced(edges: Edges) -> dict[str, set[str]]:
    """Return the transitive reduction."""

    def beyond(box: str) -> set[str]:
        return set().union(*({near} | beyond(near) for near in edges[box]), set())

    return {box: {to for to in near if not any(to in beyond(by) for by in near - {to})} for box, near in edges.items()}


def places() -> tuple[dict[str, tuple[float, float]], float]:
    """Return the centre of each box of the core, and the width that the boxes take."""
    rows = layers()
    width = 2 * EDGE + max(map(len, rows)) * (WIDTH + GAP_X) - GAP_X
    found = {}
    for down, row in enumerate(rows):
        for across, name in enumerate(row):
            x = width / 2 + (across - (len(row) - 1) / 2) * (WIDTH + GAP_X)
            found[name] = (x, EDGE / 2 + HEIGHT / 2 + down * (HEIGHT + GAP_Y))
    return found, width


def draw(edges: Edges) -> str:
    """Return the diagram as SVG."""
    where, right = places()
    width, height = right + FAMILY_WIDTH + EDGE / 2, max(y for _, y in where.values()) + HEIGHT / 2 + EDGE / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" font-family="system-ui, sans-serif" font-size="13">',
        "<title>Imports between packages: the core on the left, the plugins on the right</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#5a6570"/></marker></defs>',
    ]
    core = reduced({box: {to for to in near if to in where} for box, near in edges.items() if box in where})
    parts += [_arrow(where[box], where[to], right) for box, near in core.items() for to in sorted(near)]
    parts += [_box(name, x, y) for name, (x, y) in where.items()]
    parts += [_family(name, edges[name], list(where), right, place) for place, name in enumerate(FAMILIES)]
    return "\n".join([*parts, "</svg>\n"])


def _arrow(start: tuple[float, float], end: tuple[float, float], width: float) -> str:
    (x, y), (to_x, to_y) = start, end
    if to_y - y > 1.5 * (HEIGHT + GAP_Y):  # past a row: around it, on the side of the target
        side = -1 if to_x < width / 2 else 1
        x, to_x = x + side * WIDTH / 2, to_x + side * (WIDTH / 2 + 2)
        out = width / 2 + side * width / 2  # the curve goes 3/4 of the way there
        line = f"M{x:.0f} {y:.0f} C{out:.0f} {y:.0f} {out:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
    else:
        y, to_y = y + HEIGHT / 2, to_y - HEIGHT / 2 - 2
        middle = (y + to_y) / 2
        line = f"M{x:.0f} {y:.0f} C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
    return f'<path d="{line}" fill="none" stroke="#5a6570" stroke-width="1.4" marker-end="url(#tip)"/>'


def _box(name: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5"'
        f' fill="#e4f0f8" stroke="#0072b2"/><text x="{x:.0f}" y="{y + 4.5:.1f}" text-anchor="middle"'
        f' fill="#1b1f24">{short(name)}</text>'
    )


def _family(name: str, near: Iterable[str], core: list[str], left: float, place: int) -> str:
    """Draw a plugin family with its imports, the lowest layers first."""
    imported = ", ".join(short(box) for box in sorted(near, key=lambda box: -[*core, "seqlab"].index(box)))
    top = EDGE / 2 + HEIGHT + GAP_Y + place * (FAMILY_HEIGHT + 16)
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{FAMILY_WIDTH}" height="{FAMILY_HEIGHT}" rx="5" fill="#fdf0e3"'
        f' stroke="#d55e00"/><text x="{left + 12:.0f}" y="{top + 21:.0f}" fill="#1b1f24">{name}</text>'
        f'<text x="{left + 12:.0f}" y="{top + 40:.0f}" fill="#4a5560" font-size="11.5">imports {imported}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), "utf-8")
