"""A run starts without SciPy's signal processing, which whoever uses it gets all the same."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import seqlab
import torchmetrics
assert "scipy.signal" not in sys.modules
from torchmetrics.classification import MulticlassAccuracy
assert type(torchmetrics.__spec__.loader).__name__ == "SourceFileLoader" == type(torchmetrics.__loader__).__name__
import scipy.signal
assert scipy.signal.find_peaks([0, 1, 0])[0].tolist() == [1]
"""


OTHER = """
import sys
from seqlab._torchmetrics import SIGNAL, _StandIn
sys.modules[SIGNAL] = _StandIn(SIGNAL)
from scipy.signal import find_peaks
assert find_peaks([0, 1, 0])[0].tolist() == [1]
assert not isinstance(sys.modules[SIGNAL], _StandIn)
"""


SUBMODULE = OTHER.replace("from scipy.signal import", "import scipy.signal.windows\nfrom scipy.signal import", 1)
NAMES = ["afterwards", "by_another_release_of_torchmetrics", "a_submodule_of_it"]


@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAM, OTHER, SUBMODULE], ids=NAMES)
def test_signal_processing_is_imported_when_it_is_used(program: str) -> None:
    pytest.importorskip("scipy")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
