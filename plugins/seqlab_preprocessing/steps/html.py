"""HTML: its tags go, its text stays."""

import re

from seqlab_preprocessing.optional import needed

_BLOCKS = """
    address article aside blockquote body br caption center col colgroup datalist dd details dialog dir div dl dt
    fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav ol optgroup
    option p pre section select summary table tbody td tfoot th thead tr ul
"""
"""Elements that stand on a line of their own, and those that a parser would move or leave out."""
_INLINE = """
    a abbr acronym audio b base bdi bdo big button cite code data del dfn em embed font i img input ins kbd label link
    map mark meta meter nobr output picture progress q s samp small source span strike strong sub sup time track tt u
    var video wbr
"""
_ATTRIBUTES = r"""(?:[\s/](?:[^<>"']|"[^"<]*"|'[^'<]*')*+)?"""
_MARKUP = re.compile(
    rf"""
    (?P<no_text> <(?P<raw>script|style)\b[^<>]*>[^<]*+(?:<(?!/?(?P=raw)\b)[^<]*+)*+</(?P=raw)\s*>
        | <!--(?:(?!<!--).)*?--> | <!doctype\b[^<>]*> | <\?xml\b[^<>]*>)
    | (?P<block> </?(?:{"|".join(_BLOCKS.split())}){_ATTRIBUTES}>)
    | </?(?:{"|".join(_INLINE.split())}){_ATTRIBUTES}>
    | &(?:[a-z][a-z0-9]{{1,31}}|\#[0-9]{{1,7}}|\#x[0-9a-f]{{1,6}});
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""What is surely HTML: a whole tag of an element there is, a comment, a whole entity."""


def html(text: str) -> str:
    """Take HTML's tags and comments out, and write its entities as characters (selectolax).

    A tag of a block, such as ``<p>`` or ``<br>``, leaves a line end behind. What only looks like HTML stays:
    ``a < b``, ``<unk>``, ``AT&T``, a tag that never ends. One layer of entities is undone: ``&amp;lt;`` gives
    ``&lt;``. A text with HTML in it loses what HTML cannot hold, which is NUL and lone surrogates.
    """
    parser = needed("selectolax.lexbor", "preprocessing.steps: html").LexborHTMLParser
    if ("<" not in text and "&" not in text) or not _MARKUP.search(text):
        return text
    parts: list[str] = []
    end = 0
    for markup in _MARKUP.finditer(text):
        parts.append(_as_text(text[end : markup.start()]))
        parts.append("\n" if markup["block"] else "" if markup["no_text"] else markup[0])
        end = markup.end()
    parts.append(_as_text(text[end:]))
    return str(parser("".join(parts), is_fragment=True).text())


def _as_text(text: str) -> str:
    """Keep a parser from seeing HTML where there is none."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
