"""Reader of the user's tables: decoding, CSV, TSV and JSON lines, checks of rows, labels."""

from seqlab.io.tables.decoding import Decoded, Decoder, Layout, check_encoding, decode, split_lines
from seqlab.io.tables.reading import JSON_LINES, MOST_COLUMNS, SEPARATORS, check_kind, read_rows
from seqlab.io.tables.rows import Check, Problems, Rows, label_notes, label_of, missing_column, similar_to

__all__ = [
    "JSON_LINES",
    "MOST_COLUMNS",
    "SEPARATORS",
    "Check",
    "Decoded",
    "Decoder",
    "Layout",
    "Problems",
    "Rows",
    "check_encoding",
    "check_kind",
    "decode",
    "label_notes",
    "label_of",
    "missing_column",
    "read_rows",
    "similar_to",
    "split_lines",
]
