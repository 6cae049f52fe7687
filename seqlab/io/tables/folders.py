"""Folders of labelled texts: a folder of text files for each class, or a file of lines for each class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from seqlab.io.tables.decoding import Layout, decode, replaced_note, split_lines
from seqlab.io.tables.files import read_bytes
from seqlab.io.tables.rows import label_of, without_end


@final
@dataclass(frozen=True)
class TextFile:
    """A file of texts of one class.

    Attributes:
        path: the file.
        label: its class.
        is_lines: whether each line is a text; otherwise the file is one text.
    """

    path: Path
    label: str
    is_lines: bool


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, without hidden ones."""
    return sorted(part for part in folder.iterdir() if part.is_dir() and part.name[0] != ".")


def class_files(folder: Path, where: str, *, needs_texts: bool = True) -> list[TextFile]:
    """Return the text files of a folder with a folder or a file for each class, by class and name.

    A class is a folder with ``.txt`` files, each one text; or, without folders, a file ``<class>.txt`` with one text a
    line. The class of files of one name, such as ``polarity.pos`` and ``polarity.neg``, is their ending.

    Raises:
        ValueError: with ``needs_texts``, there are neither, or a class has no texts.
    """
    classes = class_folders(folder)
    if not classes:
        found = _line_files(folder)
        if needs_texts and not found:
            raise ValueError(
                f"{where} has no folders; it must have one of .txt files for each class, or a file <class>.txt with one"
                " text per line for each"
            )
        return found
    found = []
    for each in classes:
        files = [path for path in _files(each) if path.suffix.lower() == ".txt"]
        if needs_texts and not files:
            raise ValueError(f"{where}: the folder {each.name} has no .txt file; add texts, or remove it")
        label = label_of(each.name)
        found += [TextFile(path, label, False) for path in files]
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())


def _line_files(folder: Path) -> list[TextFile]:
    files = _files(folder)
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    if len(texts) > 1:
        return [TextFile(path, label_of(path.stem), True) for path in texts]
    if len(files) > 1 and len({path.stem for path in files}) == 1 and all(path.suffix[1:] for path in files):
        return [TextFile(path, label_of(path.suffix[1:]), True) for path in files]
    return []


def read_texts(files: Sequence[TextFile], where: str, layout: Layout, notes: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the texts and their labels; add to the notes when all are read.

    Raises:
        ValueError: a file has bytes that the encoding does not have.
        OSError: a file cannot be read.
    """
    replaced = blank = 0
    for file in files:
        name = file.path.name if file.is_lines else f"{file.path.parent.name}/{file.path.name}"
        text, facts = decode(read_bytes(file.path, f"{where}: {name}"), f"{where}: {name}", layout)
        replaced += facts.replaced
        notes += (f"{name}: {note}" for note in facts.notes if not facts.replaced or note != facts.notes[-1])
        if not file.is_lines:
            yield text, file.label
            continue
        for line in split_lines(text, facts.newline):
            if (bare := without_end(line)).strip():
                yield bare, file.label
            else:
                blank += 1
    if replaced:
        notes.append(replaced_note(replaced, layout))
    if blank:
        notes.append(f"empty lines skipped: {blank:,}")
