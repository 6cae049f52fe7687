"""Reading, cleaning and splitting of names, and messages about bad files."""

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from seqlab_tasks.names import Names, clean, read_names, spelling

ELVES = ["Galadriel", "Elrond", "Arwen", "Legolas", "Thranduil", "Celeborn", "Haldir", "Luthien", "Feanor", "Turgon"]
DWARVES = ["Gimli", "Durin", "Balin", "Dwalin", "Thorin", "Fili", "Kili", "Oin", "Gloin", "Bombur", "Bifur"]
INVENTED = {
    "Лесной": ["Бо", "Ва", "Гра", "Ду", "Жи"],
    "Степной": ["ков", "лин", "мак", "нур", "тай"],
    "Горный": ["Хыр", "Цох", "Шамь", "Щек", "Эль"],
    "เหนือ": ["กา", "ขิ", "คุ", "งา", "จี้"],
    "ใต้": ["ทอง", "นิ่ม", "ปลา", "พร", "ฟ้า"],
}


def write(folder, **classes):
    folder.mkdir(exist_ok=True)
    for label, rows in classes.items():
        data = rows if isinstance(rows, bytes) else "\n".join(rows).encode()
        (folder / f"{label}.txt").write_bytes(data)
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "peoples", Elvish=ELVES, Dwarvish=DWARVES)


def pairs(task):
    """All (split, label, name) of a task."""
    splits = task.splits()
    return {
        (split, task.labels[target], name)
        for split, examples in splits.items()
        for name, target in zip(examples.inputs, examples.targets.tolist(), strict=True)
    }


def check_split(task):
    """No name on two sides, every label in each split, a tenth for each of validation and test."""
    found = pairs(task)
    homes, sizes = defaultdict(set), Counter()
    for split, label, name in found:
        homes[spelling(name)].add(split)
        sizes[label, split] += 1
    assert all(len(splits) == 1 for splits in homes.values())
    for label in task.labels:
        names = sum(sizes[label, split] for split in ("train", "valid", "test"))
        for split in ("valid", "test"):
            assert 1 <= sizes[label, split] <= max(1, names / 10 + 1)
        assert sizes[label, "train"] >= 1
    return found


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (" Galadriel \r", "Galadriel"),
        ("\u00a0De\u00a0 la\tCruz\u00a0", "De la Cruz"),
        ("\ufeffElrond\u200b", "Elrond"),
        ("To The First\u00a0 Page", ""),
        ("to the first page", ""),
        ("Lu:", "Lu"),
        ("Lytkin, ", "Lytkin"),
        ("Rafaj1", "Rafaj"),
        ("Maxa/B", "Maxa"),
        ("e\u0301", "é"),
        ("12", ""),
        ("-- ,", ""),
        ("Novy Novy", "Novy Novy"),
        ("D'Arcy-O’Neill Jr.", "D'Arcy-O’Neill Jr."),
        ("Müller/Meier", "Müller/Meier"),
        ("สมศักดิ์", "สมศักดิ์"),
        ("R2D2 Smith", "R2D2 Smith"),
    ],
)
def test_cleaning_removes_junk_only(row, name):
    assert clean(row) == name


def test_a_clean_name_stays_clean():
    for name in [*ELVES, *DWARVES, *(part for parts in INVENTED.values() for part in parts)]:
        assert clean(name) == name


def test_every_dropped_row_is_counted(tmp_path):
    rows = [*ELVES, "Elrond", " Elrond,", "To The First Page", "", "  ", "123"]
    task = Names(data_dir=write(tmp_path / "x", Elvish=rows, Dwarvish=[*DWARVES, "Elrond"]))
    assert len(pairs(task)) == len(ELVES) + len(DWARVES) + 1
    assert task.notes == [
        "22 names of 2 classes in 26 rows; rows dropped: 2 duplicates within a class, 1 web page navigation,"
        " 1 without a letter; 1 cut: Elrond, -> Elrond",
        "names in several classes, each in one split only: 1",
    ]
    assert task.report({}, tmp_path).notes == task.notes


def test_a_byte_order_mark_windows_line_ends_and_other_line_breaks(tmp_path):
    """Only a newline ends a line: U+2028 and a form feed are blanks."""
    rows = "\ufeff" + "\r\n".join([*ELVES, "Tar\u2028Minyatur", "Ar\x0cPharazon"])
    task = Names(data_dir=write(tmp_path / "x", Elvish=rows.encode(), Dwarvish=DWARVES))
    assert {name for _, label, name in pairs(task) if label == "Elvish"} == {*ELVES, "Tar Minyatur", "Ar Pharazon"}


def test_all_spellings_of_a_name_are_on_one_side(tmp_path):
    twins = {f"O'Bri{letter}n": f"Obrí{letter}n" for letter in "abcdefghijklmnopqrst"}
    path = write(tmp_path / "x", Irish=[*twins, *ELVES], English=[*twins.values(), *DWARVES])
    for seed in range(5):
        homes = {name: split for split, _, name in check_split(Names(data_dir=path, split_seed=seed))}
        assert all(homes[one] == homes[other] for one, other in twins.items())


def test_spelling_keeps_marks_that_are_letters():
    assert spelling("O'Neill") == spelling("oneill") == spelling("Ó Néill")
    assert spelling("Weiß") == spelling("WEISS")
    assert spelling("สิน") != spelling("สุน")
    assert spelling("'") == "'"


def test_the_split_is_fixed_by_its_own_seed(folder):
    first = pairs(Names(data_dir=folder))
    torch.manual_seed(7)
    assert pairs(Names(data_dir=folder)) == first
    assert pairs(Names(data_dir=folder, split_seed=1)) != first


def test_the_order_of_rows_changes_nothing(folder, tmp_path):
    backward = write(tmp_path / "backward", Elvish=ELVES[::-1], Dwarvish=DWARVES[::-1])
    one, other = Names(data_dir=folder).splits(), Names(data_dir=backward).splits()
    for split in one:
        assert one[split].inputs == other[split].inputs
        assert torch.equal(one[split].targets, other[split].targets)


def test_five_invented_classes_in_cyrillic_and_thai(tmp_path):
    classes = {label: [a + b for a in parts for b in parts] for label, parts in INVENTED.items()}
    task = Names(data_dir=write(tmp_path / "x", **classes))
    assert len(check_split(task)) == 125
    assert set(task.labels) == set(INVENTED)


def test_hidden_and_other_files_are_ignored(folder):
    for name in (".DS_Store.txt", "README.md", "Orkish.txt~"):
        Path(folder, name).write_text("Shagrat\n", "utf-8")
    Path(folder, "sub.txt").mkdir()
    assert Names(data_dir=folder).splits()
    task = Names(data_dir=folder)
    task.splits()
    assert task.labels == ("Dwarvish", "Elvish")


def test_bundled_names_can_be_split():
    task = Names()
    assert len(check_split(task)) >= 18 * 120
    assert len(task.labels) == 18


def refused(task):
    with pytest.raises((ValueError, OSError)) as caught:
        task.splits()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_not_utf8(tmp_path):
    rows = "\n".join([*ELVES[:6], "Peña"]).encode("latin-1")
    path = write(tmp_path / "x", Elvish=rows, Dwarvish=DWARVES)
    assert refused(Names(data_dir=path)) == (
        f"task.data_dir={path}: Elvish.txt, line 7 is not UTF-8 (byte 0xf1)."
        " Save the file as UTF-8, or set task.encoding_errors=replace"
    )
    task = Names(data_dir=path, encoding_errors="replace")
    assert "Pe\ufffda" in {name for _, _, name in pairs(task)}
    assert "names with bytes that are not UTF-8, shown as \ufffd: 1" in task.notes


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_named(tmp_path, encoding):
    path = write(tmp_path / "x", Elvish="\n".join(ELVES).encode(encoding), Dwarvish=DWARVES)
    assert "Elvish.txt, line 1 has a zero byte, as in UTF-16. Save the file as UTF-8" in refused(Names(data_dir=path))


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_with_too_few_names(tmp_path, count):
    path = write(tmp_path / "x", Elvish=ELVES, Dwarvish=DWARVES, Entish=["Fangorn", "Fimbrethil"][:count] * 9)
    assert f"Entish.txt has {count} different names; at least 3 are needed" in refused(Names(data_dir=path))


def test_classes_that_share_too_much(tmp_path):
    path = write(tmp_path / "x", A=["Aa", "Bb", "Cc"], B=["Aa", "Bb", "Dd"], C=["Aa", "Cc", "Dd"])
    assert "has 3 different names, shared with other files" in refused(Names(data_dir=path))


def test_folders_without_data(tmp_path):
    assert "nowhere: no such folder" in refused(Names(data_dir=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    assert "empty has no .txt file; it must have <Class>.txt" in refused(Names(data_dir=str(tmp_path / "empty")))
    (tmp_path / "file").touch()
    assert "file: not a folder" in refused(Names(data_dir=str(tmp_path / "file")))
    one = write(tmp_path / "one", Elvish=ELVES)
    assert "all names have one class, Elvish; at least 2" in refused(Names(data_dir=one))
    hollow = write(tmp_path / "hollow", Elvish=ELVES, Dwarvish=[" ", "12"])
    assert "Dwarvish.txt has no names; write one name per line" in refused(Names(data_dir=hollow))


def test_a_file_that_cannot_be_read():
    class Locked:
        name = "Elvish.txt"

        def read_bytes(self):
            raise PermissionError(13, "Permission denied", "Elvish.txt")

    with pytest.raises(OSError, match=r"^task.data_dir=x: Elvish.txt cannot be read: Permission denied$"):
        read_names([Locked()], "task.data_dir=x")


@pytest.fixture
def real_folder():
    if "SEQLAB_DATA" not in os.environ:
        pytest.skip("SEQLAB_DATA names no folder of real data")
    return Path(os.environ["SEQLAB_DATA"]) / "names"


@pytest.mark.data
@pytest.mark.parametrize("seed", range(5))
def test_the_real_names_are_clean_and_do_not_leak(real_folder, seed):
    """18,015 raw (language, name) pairs; two of them are navigation, and "Lu:" is the "Lu" that is there already."""
    task = Names(data_dir=str(real_folder), split_seed=seed)
    found = check_split(task)
    assert len(found) == 18_015 - 2 - 1
    names = {name for _, _, name in found}
    assert not {name for name in names if name.startswith("To The") or clean(name) != name}
    assert {"Lu", "Maxa", "Rafaj", "Lytkin"} <= names
    assert "20,074 rows" in task.notes[0]
    assert "24 web page navigation" in task.notes[0]
    sizes = Counter(split for split, _, _ in found)
    assert (sizes["valid"], sizes["test"]) == (pytest.approx(1801, abs=9), pytest.approx(1801, abs=9))


@pytest.mark.data
def test_a_filled_cache_is_the_tutorials_source(real_folder, tmp_path, monkeypatch):
    (tmp_path / "names-pytorch-tutorial").symlink_to(real_folder)
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    assert pairs(Names(source="pytorch-tutorial")) == pairs(Names(data_dir=str(real_folder)))
