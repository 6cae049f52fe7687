"""What the tests of the documentation share."""

import sys
from pathlib import Path

from ..seqlab.cli.conftest import cli  # noqa: F401  # a fixture

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "_ext"))
