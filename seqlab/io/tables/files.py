"""Opening of tables: a file of any kind is read and checked once from end to end."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.resources.abc import Traversable
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

from seqlab.errors import UserError
from seqlab.io.safe_io import check_not_sparse, open_regular
from seqlab.io.tables.decoding import Decoded, Decoder, Layout
from seqlab.io.tables.reading import check_kind, read_rows, read_sheet
from seqlab.io.tables.records import PARQUET, STRUCTURED, parquet_rows, sheet_records
from seqlab.io.tables.rows import Check, Rows

_PIECE = 2**20


def read_table(file: Traversable, where: str, layout: Layout, check: Check | None = None) -> Rows:
    """Read and check a table: CSV, TSV, JSON lines, Parquet or Excel by the ending of its name.

    Only a newline ends a line; U+2028, U+0085, similar characters and newlines within quotes stay in the text.

    Args:
        file: to read.
        where: begins an error's message.
        layout: set by the user.
        check: further requirements.

    Raises:
        ValueError: the file is empty, of an unknown kind, or has bad rows; the message lists all of them.
        OSError: it cannot be read.
    """
    suffix = Path(file.name).suffix.lower()
    try:
        check_kind(suffix, layout)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if suffix in STRUCTURED:
        found = _read_structured(cast(Path, file), suffix, where, layout, check or Check())
    else:
        found = _read_lines(file, suffix, where, layout, check)
    if not found.count:
        raise ValueError(f"{where} has a header, but no rows" if found.columns else f"{where} is empty")
    return found


def _read_structured(path: Path, suffix: str, where: str, layout: Layout, check: Check) -> Rows:
    with open_binary(path, where):  # a regular file that may be read
        pass
    if suffix in PARQUET:
        return parquet_rows(path, where, check)
    records, notes = sheet_records(path, where, has_header=layout.header == "auto")
    return read_sheet(records, where, notes, layout, check)


def _read_lines(file: Traversable, suffix: str, where: str, layout: Layout, check: Check | None) -> Rows:
    facts = decoding_facts(file, where, layout)

    def lines() -> Iterator[str]:
        """Read the lines with their ends and without byte-order marks."""
        binary = open_binary(file, where)
        with TextIOWrapper(binary, encoding=layout.encoding, errors=layout.errors, newline=facts.newline) as text:
            for number, line in enumerate(text):
                yield line[facts.marks :] if number == 0 else line

    found = read_rows(lines, where, suffix, layout, check)
    return replace(found, notes=(*facts.notes, *found.notes))


def open_binary(file: Traversable, where: str) -> BinaryIO:
    """Open a regular file that is not sparse for reading bytes.

    Raises:
        ValueError, OSError: it cannot be read.
    """
    try:
        if not isinstance(file, Path):
            return cast(BinaryIO, file.open("rb"))
        opened = open_regular(file)
        try:
            check_not_sparse(opened)
        except ValueError:
            opened.close()
            raise
    except (UserError, ValueError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    except OSError as error:
        raise OSError(f"{where} cannot be read: {error.strerror}") from error
    return opened


def read_bytes(file: Traversable, where: str) -> bytes:
    """Read a file of any size that is not sparse.

    Raises:
        ValueError, OSError: it cannot be read.
    """
    with open_binary(file, where) as opened:
        return opened.read()


def decoding_facts(file: Traversable, where: str, layout: Layout) -> Decoded:
    """Decode a file piece by piece; return line ends, byte-order marks and notes.

    Raises:
        ValueError: it has bytes that the encoding does not have, or nothing but white space.
    """
    decoder, is_empty = Decoder(where, layout), True
    with open_binary(file, where) as opened:
        while piece := opened.read(_PIECE):
            is_empty &= not decoder.feed(piece, final=False).strip("\ufeff \t\r\n")
        is_empty &= not decoder.feed(b"", final=True).strip("\ufeff \t\r\n")
    if is_empty:
        raise ValueError(f"{where} is empty")
    return decoder.facts()
