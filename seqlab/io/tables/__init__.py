"""Reader of the user's tables and folders: decoding, formats, checks of rows, columns, labels."""

from seqlab.io.tables.columns import SPLIT_NAMES, Columns, column_names
from seqlab.io.tables.decoding import Decoded, Decoder, Layout, check_encoding, decode, split_lines
from seqlab.io.tables.files import read_bytes, read_table
from seqlab.io.tables.folders import TextFile, class_files, class_folders, read_texts
from seqlab.io.tables.reading import KINDS, SEPARATORS, check_kind, read_rows
from seqlab.io.tables.records import JSON_LINES
from seqlab.io.tables.rows import Check, Problems, Rows, label_notes, label_of, missing_column, similar_to

__all__ = [
    "JSON_LINES",
    "KINDS",
    "SEPARATORS",
    "SPLIT_NAMES",
    "Check",
    "Columns",
    "Decoded",
    "Decoder",
    "Layout",
    "Problems",
    "Rows",
    "TextFile",
    "check_encoding",
    "check_kind",
    "class_files",
    "class_folders",
    "column_names",
    "decode",
    "label_notes",
    "label_of",
    "missing_column",
    "read_bytes",
    "read_rows",
    "read_table",
    "read_texts",
    "similar_to",
    "split_lines",
]
