"""Languages."""

from functools import cache
from typing import Any, final

from seqlab_preprocessing.optional import needed

_ENOUGH = 5_000  # characters; more of them cost time and change nothing


@final
class Language:
    """Train on texts in this language only: ``language:vi`` (py3langid).

    A text is judged as the steps before have left it, ``_`` read as a space. One without a letter has no language
    and passes. Short texts are often judged wrongly.

    Args:
        code: the language to keep, in ISO 639, such as ``vi`` or ``en``.

    Raises:
        ValueError: there is no such language.
        UserError: py3langid is not installed.
    """

    def __init__(self, code: str) -> None:
        known = _identifier().labels
        if code not in known:
            raise ValueError(f"steps: language:{code} is no language; there are {', '.join(sorted(known))}")
        self.code = code

    def __call__(self, text: str) -> str:
        """Change nothing."""
        return text

    def reason(self, text: str) -> str | None:
        """Say why a text is not to be trained on; ``None`` if it is."""
        text = text[:_ENOUGH].replace("_", " ")
        if not any(map(str.isalpha, text)):
            return None
        found, _ = _identifier().classify(text)
        return None if found == self.code else f"language: {found}, not {self.code}"


@cache
def _identifier() -> Any:
    """Load the model that py3langid brings; takes half a second."""
    langid = needed("py3langid.langid", "preprocessing.steps: language")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
