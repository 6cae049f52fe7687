"""Steps that need optional packages: HTML, mojibake and languages."""

import re
from functools import cache
from importlib import import_module
from typing import Any, final

from seqlab.errors import UserError


@cache
def optional_package(module: str, by: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: its name.
        by: what needs it, as the config names it.

    Raises:
        UserError: the package is not installed; the message says how to install it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise UserError(f"{by} needs {package}, which is not installed: pip install seqlab[text]") from None


_BLOCKS = """
    address article aside blockquote body br caption center col colgroup datalist dd details dialog dir div dl dt
    fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav ol optgroup
    option p pre section select summary table tbody td tfoot th thead tr ul
"""
"""Elements on a line of their own, and those that a parser would move or leave out."""
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
"""What is certainly HTML: a whole tag of a known element, a comment, a whole entity."""


def html(text: str) -> str:
    """Remove HTML tags and comments, decode entities (selectolax).

    A block tag, such as ``<p>`` or ``<br>``, becomes a line end. What only looks like HTML stays: ``a < b``, ``<unk>``,
    ``AT&T``, a tag that never ends. One layer of entities is decoded: ``&amp;lt;`` becomes ``&lt;``. A text with HTML
    in it loses what HTML cannot hold: NUL and lone surrogates.
    """
    parser = optional_package("selectolax.lexbor", "preprocessing.steps: html").LexborHTMLParser
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
    """Escape what is not HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def mojibake(text: str) -> str:
    """Repair mojibake (ftfy): ``sÃ³`` to ``só``.

    Each line is repaired by itself, and only its encoding: quotes, entities and the like stay as they are.
    """
    fix = optional_package("ftfy", "preprocessing.steps: mojibake").fix_encoding
    return text if text.isascii() else "\n".join(line if line.isascii() else fix(line) for line in text.split("\n"))


_ENOUGH = 5_000  # characters; more cost time and change nothing


@final
class Language:
    """Train on texts of one language: ``language:vi`` (py3langid).

    A text is judged as the steps before have left it, ``_`` read as a space. One without a letter passes. Short texts
    are often judged wrongly.

    Args:
        code: the language to keep, in ISO 639, such as ``vi`` or ``en``.

    Raises:
        ValueError: the language is unknown.
        UserError: py3langid is not installed.
    """

    def __init__(self, code: str) -> None:
        known = _identifier().labels
        if code not in known:
            raise ValueError(f"steps: unknown language {code} in language:{code}; known are {', '.join(sorted(known))}")
        self.code = code

    def __call__(self, text: str) -> str:
        """Return the text unchanged."""
        return text

    def reason(self, text: str) -> str | None:
        """Return why a text is left out of training, or ``None``."""
        text = text[:_ENOUGH].replace("_", " ")
        if not any(map(str.isalpha, text)):
            return None
        found, _ = _identifier().classify(text)
        return None if found == self.code else f"language: {found}, not {self.code}"


@cache
def _identifier() -> Any:
    """Load the model of py3langid, which takes half a second."""
    langid = optional_package("py3langid.langid", "preprocessing.steps: language")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
