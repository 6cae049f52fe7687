"""The generated reference pages."""

import re

import pytest


@pytest.fixture(scope="module")
def pages():
    import reference

    return reference.pages()


def test_every_key_has_a_meaning(pages):
    """Also those of files, whose meanings are comments in YAML."""
    rows = [row.split("\n     - ") for page in pages.values() for row in re.split(r"\n   \* - ", page)[1:]]
    keys = [(cells[0], cells[-1].split("\n")[0]) for cells in rows if re.match(r"``[\w./]+``$", cells[0])]
    assert len(keys) > 100
    assert [key for key, meaning in keys if not meaning.strip()] == []


def test_what_is_said_of_a_file_is_prose(pages):
    page = pages["config_experiment"]
    assert "@package" not in page
    assert re.search(r"\.\. code-block:: sh\n\n   python -m seqlab -m experiment=horizon_quick ", page)
