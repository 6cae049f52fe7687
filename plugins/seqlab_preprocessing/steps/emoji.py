"""Emoji, flags and emoticons."""

import re

_PICTURE = (
    "\u231a\u231b\u2328\u23cf\u23e9-\u23fa\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u27bf"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001faff"
)
"""Emoji and their kin: dingbats, playing cards, the letters that flags are written with, tones of skin."""
_MODIFIER = "\u200d\u20e3\ufe0e\ufe0f\U000e0020-\U000e007f"
"""What joins and changes them; U+FE0F makes emoji of other signs."""

_EMOTICON = r"""
    [:;=]['’]?[-^o*]?(?:\)++|\(++|\]++|\[++)(?!\w)                   # :) ;-( ='( :))))
    | (?<!\w)[:;=]['’]?-?[DPpOo3vVsS]+(?!\w) | (?<!\w)[xX]D+(?!\w)  # :D :v =P xD
    | (?<!\w):-?[/\\|](?![/\w])                                    # :/ but not http://
    | [:;=](?:[ ]?[-'])?[ ]?\)(?:[ ]?\))*+(?!\w)                   # : ) ) as word segmenters write it
    | [:;=](?:[ ]?[-'])?[ ]?\((?:[ ]?\()*+(?!\w|[^()\n]*\))        # : ( unless the bracket is closed
    | (?<!\w)[:;=][ ]?-[ ]?[DPp]+(?!\w)                            # : - D
    | </?3+(?!\w) | \^[_.-]?\^ | -_+- | >[_.]<
    | (?<!\w)(?:T[_.]T|[oO]_[oO])(?!\w)
"""
_EMOJI = re.compile(
    rf"""
    (?=[^\w\s]|[0-9xXToO])                                          # what none begins with is passed over soon
    (?: (?:[0-9#*]\ufe0f?\u20e3 | [{_PICTURE}] | [^\w\s]?\ufe0f | [\ufe0e\u20e3]) [{_MODIFIER}]* | {_EMOTICON} )+
    """,
    re.VERBOSE,
)


PASSES = 16
"""How often a text is gone through: what was wrapped more often was wrapped to take time."""


def emoji(text: str) -> str:
    """Put a space for emoji, flags, keycaps and emoticons such as ``:-)``, ``:v``, ``<3`` and ``T_T``.

    Word-segmented text has blanks in its emoticons; ``: )`` and ``: - D`` are known too.
    """
    for _ in range(PASSES):  # what is left may make one: a heart within ":♥)"
        if (without := _EMOJI.sub(" ", text)) == text:
            break
        text = without
    return text
