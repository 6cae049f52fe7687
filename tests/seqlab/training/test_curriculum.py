"""Runs with a curriculum: growth, records, resume after a kill, several processes, time budget."""

import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import seqlab
from seqlab import UserError
from seqlab.config.schema import plain_config
from seqlab.io.csv_files import read_csv
from seqlab.runs.run_folder import CURRICULUM, METRICS
from seqlab.training.resume import config_history
from seqlab.training.session import prepare_data
from seqlab.training.verification import verify_run

from ...processes import finish, start, wait_for
from ..resumable import checkpoint_of, last, record_of, same, weights_of

SMALL = [
    "task=first", "task.choices=2", "task.lengths=curriculum", "task.sequence_length=40", "task.start_length=3",
    "task.check_every=20", "task.held_out=300", "task.eval_multiples=[2]", "task.eval_lengths=[7]",
    "data.batch_size=17", "data.tokens_per_batch=300", "cell=gru", "cell.hidden_size=8", "model.embedding_size=4",
    "optimizer.lr=0.02", "optimizer.schedule=constant", "optimizer.warmup=0", "trainer.max_epochs=14", "seed=1",
    "trainer.progress=false", "trainer.threads=1", "logger=none", "kernel=loop",
]  # fmt: skip
TIMES = ("seconds",)


def rows_of(folder):
    return [{key: row[key] for key in row if key != "seconds"} for row in read_csv(folder / CURRICULUM)]


def timeless(record):
    return {key: value for key, value in record["lengths"].items() if key != "seconds"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return seqlab.run(seqlab.compose(SMALL), folder)


def test_the_record_says_what_was_reached_and_tested(whole):
    rows, found = rows_of(whole.folder), whole.record["lengths"]
    passed = [row for row in rows if row["passed"] == "1"]
    ceilings = [int(row["ceiling"]) for row in rows]
    grown = [
        min(40, math.ceil(row * 1.5)) if rows[place]["passed"] == "1" else row for place, row in enumerate(ceilings)
    ]
    assert [3, *grown][: len(ceilings)] == ceilings
    assert len({*ceilings}) > 5
    longest = max(int(row["ceiling"]) for row in passed)
    assert found["reached"] == found["valid"] == found["test"] == longest
    first = next(row for row in passed if int(row["ceiling"]) == longest)
    assert (found["steps"], found["examples"]) == (int(first["step"]), int(first["examples"]))
    assert 1 <= found["shortest"] <= 3
    assert longest // 2 <= found["longest"] <= found["ceiling"] == max([3, *grown])
    best = max(float(row["score"]) for row in passed if int(row["ceiling"]) == longest)
    assert whole.record["metrics"]["valid"]["accuracy"] == best >= 0.99
    assert whole.record["data"]["valid"]["length"]["longest"] == longest
    assert [row["longest"] for row in whole.record["tables"]["further_tests"]] == sorted([7, 2 * longest])
    assert whole.record["tables"]["bounds"][0]["sequence_length"] == longest
    assert "curriculum.png" in whole.record["figures"]
    assert (whole.folder / "curriculum.png").read_bytes().startswith(b"\x89PNG")
    assert all(finding.state == "ok" for finding in verify_run(whole.folder))


def test_scores_are_those_of_the_best_weights_at_the_lengths_recorded(whole):
    """The model, loaded again, on the held-out examples."""
    trained = seqlab.load(whole.folder)
    _, data = prepare_data(plain_config(seqlab.compose(SMALL)))
    for split in ("valid", "test"):
        hits = rows = 0
        for batch in data.held_out_loader(split, whole.record["lengths"][split]):
            outputs = trained.model.eval()(batch, None)[0]
            hits, rows = hits + int((outputs.argmax(-1) == batch.targets).sum()), rows + len(batch.targets)
        assert whole.record["metrics"][split]["accuracy"] == pytest.approx(hits / rows, abs=1e-6)
        assert rows == whole.record["data"][split]["examples"] == 300


@pytest.mark.slow
def test_a_killed_run_continues_bit_for_bit(tmp_path, whole):
    """Kill -9 within an epoch, after the ceiling grew twice."""
    words = [*SMALL, "trainer.checkpoint_minutes=0", f"hydra.run.dir={tmp_path / 'run'}"]
    process = start(tmp_path, *words)
    wait_for(lambda: len(read_csv(tmp_path / "run" / CURRICULUM)) >= 4)
    process.kill()
    finish(process)
    assert not (tmp_path / "run" / "results.json").exists()
    cut = checkpoint_of(tmp_path / "run")
    assert 3 < cut["callbacks"]["LengthTracker"]["ceiling"] < 40
    code, out = finish(start(tmp_path, *words, "ckpt_path=last"))
    assert code == 0, out
    assert same(last(tmp_path / "run"), last(whole.folder))
    assert same(weights_of(tmp_path / "run"), weights_of(whole.folder))
    assert rows_of(tmp_path / "run") == rows_of(whole.folder)
    record = record_of(tmp_path / "run")
    assert timeless(record) == timeless(whole.record)
    assert record["metrics"] == dict(whole.record["metrics"])
    one, other = (checkpoint_of(folder)["callbacks"]["LengthTracker"] for folder in (tmp_path / "run", whole.folder))
    assert one == other


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_loggers_have_the_ceiling_and_the_score_at_it(tmp_path, logger):
    """The rows of ``metrics.csv``, and TensorBoard's files read by TensorBoard, against the curve."""
    words = [*SMALL, "trainer.max_epochs=6", "task.check_every=10", "optimizer.lr=0.05", f"logger={logger}"]
    folder = seqlab.run(seqlab.compose(words), tmp_path / "run").folder
    curve = read_csv(folder / CURRICULUM)
    assert len({row["ceiling"] for row in curve}) > 1
    for name in ("ceiling", "score"):
        if logger == "csv":
            rows = [row for row in read_csv(folder / METRICS) if row["valid/accuracy"]]
            found = [float(row[f"curriculum/{name}"]) for row in rows]
        else:
            events = EventAccumulator(str(folder / "tensorboard" / "version_0")).Reload()
            found = [event.value for event in events.Scalars(f"curriculum/{name}")]
        assert found == pytest.approx([float(row[name]) for row in curve])


@pytest.mark.parametrize(
    ("option", "remedy"), [("schedule=plateau", "schedule=constant"), ("averaging=3", "averaging=null")]
)
def test_options_that_compare_scores_of_several_lengths_are_refused(tmp_path, option, remedy):
    words = [*SMALL, "optimizer=nt_asgd", "optimizer.averaging=null", "optimizer.warmup=0", f"optimizer.{option}"]
    with pytest.raises(UserError, match=f"optimizer.{option}.*task.lengths=curriculum.*optimizer.{remedy}"):
        seqlab.run(seqlab.compose(words), tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()
    short = ["task.lengths=fixed", "task.sequence_length=4", "task.examples=34", "trainer.max_epochs=1"]
    seqlab.run(seqlab.compose([*words, *short]), tmp_path / "fixed")


@pytest.mark.slow
def test_two_processes_have_the_ceilings_of_one(tmp_path, whole):
    two = seqlab.run(
        seqlab.compose([*SMALL, "trainer=ddp_cpu", "trainer.max_epochs=14", "trainer.progress=false"]), tmp_path / "two"
    )
    one, other = rows_of(whole.folder), rows_of(two.folder)
    for key in ("step", "examples", "ceiling", "passed"):
        assert [row[key] for row in other] == [row[key] for row in one]
    assert [float(row["score"]) for row in other] == pytest.approx([float(row["score"]) for row in one], abs=0.01)
    assert timeless(two.record) == timeless(whole.record)


def test_it_stops_when_the_last_length_is_solved_and_not_before(tmp_path):
    words = [*SMALL, "task.sequence_length=8", "trainer.stop_when_solved=2", "trainer.max_epochs=60"]
    result = seqlab.run(seqlab.compose(words), tmp_path / "run")
    rows = rows_of(result.folder)
    assert [(row["ceiling"], row["passed"]) for row in rows][-2:] == [("8", "1")] * 2
    assert len(rows) < 60
    assert ("8", "1") not in [(row["ceiling"], row["passed"]) for row in rows][:-3]


def test_a_run_that_solves_nothing_is_tested_at_the_first_length(tmp_path):
    result = seqlab.run(seqlab.compose([*SMALL, "optimizer.lr=0", "trainer.max_epochs=2"]), tmp_path / "run")
    found = result.record["lengths"]
    assert found["reached"] is None is found["steps"]
    assert (found["ceiling"], found["valid"], found["test"]) == (3, 3, 3)
    assert result.verdict == "at chance"


def test_every_protocol_records_when_it_solved_its_length(tmp_path):
    words = [*SMALL, "task.lengths=fixed", "task.sequence_length=4", "task.examples=200", "task.eval_multiples=[3]"]
    found = {}
    for protocol in ("fixed", "uniform"):
        result = seqlab.run(seqlab.compose([*words, f"task.lengths={protocol}"]), tmp_path / protocol)
        found[protocol] = result.record["lengths"]
        assert [row["split"] for row in result.record["tables"]["further_tests"]] == ["length 7", "length 12"]
        assert found[protocol]["reached"] == found[protocol]["test"] == 4
        assert 0 < found[protocol]["steps"] <= result.cost["steps"]
    assert (found["fixed"]["shortest"], found["fixed"]["longest"]) == (4, 4)
    assert (found["uniform"]["shortest"], found["uniform"]["longest"]) == (1, 4)


def test_minutes_end_a_run_and_a_resumed_one_counts_those_used(tmp_path):
    words = [*SMALL, "trainer.max_epochs=null", "task.check_every=100000"]
    result = seqlab.run(seqlab.compose([*words, "trainer.max_minutes=0.01"]), tmp_path / "run")
    steps, seconds = result.cost["steps"], result.cost["fit_seconds"]
    assert 0.6 <= seconds < 20
    assert len(rows_of(result.folder)) == 1
    ((part, _),) = config_history(result.record)
    repeated = seqlab.run(part, tmp_path / "repeated")
    assert repeated.cost["steps"] == steps
    assert same(weights_of(repeated.folder), weights_of(result.folder))
    again = seqlab.run(seqlab.compose([*words, "trainer.max_minutes=0.02", "ckpt_path=last"]), tmp_path / "run")
    assert again.cost["steps"] > steps
    assert 1.2 <= again.cost["fit_seconds"] < 40
    done = seqlab.run(seqlab.compose([*words, "trainer.max_minutes=0.005", "ckpt_path=last"]), tmp_path / "run")
    assert done.cost["steps"] <= again.cost["steps"] + 1


def test_something_must_end_a_run():
    with pytest.raises(UserError, match=r"trainer.max_epochs=null needs trainer.max_steps or trainer.max_minutes"):
        plain_config(seqlab.compose(["task=first", "trainer.max_epochs=null"]))
