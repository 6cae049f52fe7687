"""Run records that change while they are read."""

from hydra_ledger import Hooks, Records
from hydra_ledger.files import write_json


def test_a_run_that_ends_while_it_is_read_was_not_killed(tmp_path):
    def is_running(folder):
        write_json(folder / "run.json", {"state": "done", "value": 1})
        return False

    write_json(tmp_path / "run.json", {"state": "running"})
    entry = Records(Hooks(is_running=is_running)).read_entry(tmp_path)
    assert (entry.state, entry.value) == ("done", 1)
