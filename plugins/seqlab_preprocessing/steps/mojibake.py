"""Text that was read in the wrong encoding."""

from seqlab_preprocessing.optional import needed


def mojibake(text: str) -> str:
    """Put right what was read in the wrong encoding (ftfy), line by line: ``sÃ³`` to ``só``.

    Only the encoding is repaired; quotes, entities and the like stay as they are.
    """
    fix = needed("ftfy", "preprocessing.steps: mojibake").fix_encoding
    return text if text.isascii() else "\n".join(line if line.isascii() else fix(line) for line in text.split("\n"))
