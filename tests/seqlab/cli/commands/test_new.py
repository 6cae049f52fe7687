"""``new``: a distribution from templates."""

import tomllib

import pytest


@pytest.mark.parametrize("kind", ["cell", "task", "preprocessing"])
def test_it_writes_a_distribution_and_prints_the_next_commands(cli, tmp_path, kind):
    done = cli("new", kind, "my_thing", "--dir", "made")
    assert done.code == 0, done.err
    folder = tmp_path / "made" / "seqlab-my-thing"
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    (entries,) = project["project"]["entry-points"].values()
    assert entries == {"my_thing": "seqlab_my_thing:MyThing"}
    assert "class MyThing(" in (folder / "seqlab_my_thing" / "__init__.py").read_text("utf-8")
    assert (folder / "tests" / "test_my_thing.py").is_file()
    assert "$" not in "".join(
        path.read_text("utf-8") for path in folder.rglob("*.*") if path.suffix in (".md", ".toml")
    )
    assert "pip install -e ./made/seqlab-my-thing" in done.out
    assert f"python -m seqlab check {kind}=my_thing" in done.out
    assert [path.name for path in folder.parent.iterdir()] == ["seqlab-my-thing"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("My-Cell", "My-Cell: a name must consist of lower-case letters"),
        ("class", "class: a name must"),
        ("../x", "../x: a name must"),
        ("lstm", "cell=lstm already exists, from seqlab"),
    ],
)
def test_an_invalid_name_is_refused(cli, tmp_path, name, line):
    done = cli("new", "cell", name)
    assert done.code == 1
    assert done.err.startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_unchanged(cli, tmp_path):
    assert cli("new", "cell", "twice").code == 0
    (tmp_path / "seqlab-twice" / "README.md").write_text("mine", "utf-8")
    done = cli("new", "cell", "twice")
    assert done.code == 1
    assert done.err.strip() == "seqlab-twice already exists; choose another name or --dir"
    assert (tmp_path / "seqlab-twice" / "README.md").read_text("utf-8") == "mine"


def test_an_invalid_folder_is_one_line(cli, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    done = cli("new", "cell", "mine", "--dir", "file")
    assert done.code == 1
    assert "file" in done.err
    assert "\n" not in done.err.strip()
