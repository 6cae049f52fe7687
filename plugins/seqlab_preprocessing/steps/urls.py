"""Addresses on the web."""

import re

_REST = r"""[^\s<>"]"""
_END = r"""[^\s<>".,;:!?'”’)\]}…]"""  # a full stop behind an address belongs to the sentence
_URL = re.compile(
    rf"""
    <(?:(?:https?|ftp)://|www\.)[^\s<>]*>
    | (?:https?|ftp)://{_REST}*{_END}
    | (?<![\w.@-])www\.{_REST}*{_END}
    | (?<![\w.@-])(?:[a-z0-9-]+\.)+(?:com|net|org|edu|gov|vn)(?![\w@-])(?:/(?:{_REST}*{_END})?)?
    """,
    re.IGNORECASE | re.VERBOSE,
)

PASSES = 16
"""How often a text is gone through: what was wrapped more often was wrapped to take time."""
_LIKELY = re.compile(r"://|[a-z0-9-]\.[a-z0-9]", re.IGNORECASE)
"""What every address has, and few other texts; it is found sooner."""


def urls(text: str) -> str:
    """Put a space for web addresses: with a scheme, with ``www.``, or a bare domain such as ``foody.vn/ha-noi``.

    Bare domains are known by their ending: com, net, org, edu, gov or vn. E-mail addresses stay.
    """
    for _ in range(PASSES):  # "a.vnhttp://b" has two, glued together
        if not _LIKELY.search(text) or (without := _URL.sub(" ", text)) == text:
            break
        text = without
    return text
