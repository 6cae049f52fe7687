"""The table of related projects names tests, commands and settings that exist."""

import re
import shlex
from pathlib import Path

from seqlab.__main__ import COMMANDS
from seqlab.config.compose import compose

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explain" / "peers.md").read_text("utf-8")


def test_the_table_names_existing_tests_and_commands():
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \|(?: [-+()]* ?\|){7}$", PAGE, re.MULTILINE)
    assert len(rows) >= 8
    for shown in rows:
        words = [word for word in shlex.split(shown) if word != "-m"]
        if shown.startswith("tests/"):
            assert (ROOT / shown).exists(), shown
        elif words[0] not in COMMANDS:
            compose(words)
