"""Figures as SVG: a file that stands alone, and a piece of a page that takes the page's colours."""

import io
import re
from html import escape
from typing import Any

from seqlab.study.report.figures import Picture
from seqlab.study.style import INK

_FONTS = ["DejaVu Sans", "Verdana", "Arial", "sans-serif"]
"""The first is what matplotlib measures by; the others are at most as wide, so that nothing overlaps."""


def standalone(picture: Picture) -> str:
    """Write a figure as an SVG file, on white.

    Text stays text (``svg.fonttype: none``): a fifth of the size of outlines, searchable, and read aloud.
    """
    import matplotlib

    stream = io.StringIO()
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": picture.name, "font.sans-serif": _FONTS}
    with matplotlib.rc_context(options):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        picture.figure.savefig(stream, format="svg", metadata=nothing)
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text)  # a copy of each text, which a label may break
    return re.sub(r"(<svg\b[^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', text, count=1)


def inline(picture: Picture, standing: str) -> str:
    """Turn an SVG file into a piece of a page: no prolog, no namespace, no white, ids of its own, the page's ink."""
    text = standing[standing.index("<svg") :].replace('<rect width="100%" height="100%" fill="#ffffff"/>', "", 1)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    view = box.group(1) if box else "0 0 400 300"
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = body.replace("xlink:href=", "href=").replace(INK, "currentColor")
    label = escape(picture.caption, quote=True)
    return f'<svg viewBox="{view}" role="img" aria-label="{label}">{body.strip()}'


def png(picture: Picture) -> bytes:
    """Draw a figure as PNG, on white, at 150 dots an inch."""
    stream = io.BytesIO()
    picture.figure.patch.set_visible(True)
    picture.figure.savefig(stream, format="png", dpi=150, facecolor="white")
    picture.figure.patch.set_visible(False)
    return stream.getvalue()
