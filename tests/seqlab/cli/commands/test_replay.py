"""``replay``: the step at which a run broke, once more."""

import json

import pytest

import seqlab
from seqlab import UserError


@pytest.fixture(params=["names", "lm"])
def broken(request, names_folder, tmp_path):
    """A run whose weights grow too large."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {n} of a text\n" for n in range(300)), "utf-8")
    data = {"names": [f"task.data_dir={names_folder}"], "lm": [f"task.data={text}", "task.sequence_length=20"]}
    options = [f"task={request.param}", "cell=rnn", "cell.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=1e18"]
    options += ["trainer.max_epochs=3", "cell.hidden_size=8", "data.batch_size=16", "logger=none"]
    options += ["optimizer.warmup=0", "trainer.progress=false", "trainer.gradient_clip_val=null"]
    with pytest.raises(UserError, match="seqlab replay"):
        seqlab.run(seqlab.compose([*options, *data[request.param]]), tmp_path / "run")
    return tmp_path / "run"


def test_it_names_the_first_part_that_is_not_finite(cli, broken):
    shown = cli("replay", str(broken / "nonfinite"), "--json")
    assert shown.code == 0, shown
    found = json.loads(shown.out)
    assert found["loss"] == found["value"]
    first = found["first"]
    assert first is None or found["outputs"][first]["not_finite"] > 0
    assert max(found["largest_weights"].values()) > 1e10
    shown = cli("replay", str(broken))
    assert shown.code == 0
    assert "largest output" in shown.out
