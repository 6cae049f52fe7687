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


def urls(text: str) -> str:
    """Put a space for web addresses: with a scheme, with ``www.``, or a bare domain such as ``foody.vn/ha-noi``.

    Bare domains are known by their ending: com, net, org, edu, gov or vn. E-mail addresses stay.
    """
    return _URL.sub(" ", text) if "." in text or "://" in text else text
