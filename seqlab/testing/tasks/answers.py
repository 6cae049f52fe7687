"""Checks of what a user sees of a task, and of what is kept of it."""

import json
import tempfile
from pathlib import Path
from unittest import SkipTest

from torch import Tensor

from seqlab.testing.guesses import has_classes
from seqlab.testing.plain import check_plain, check_refuses_bad_states, reads, written
from seqlab.testing.suite import demand
from seqlab.testing.taskdata import (
    alike,
    check_report,
    updated,
    working_in,
)
from seqlab.testing.tasks.making import TaskMaking


class AnswerChecks(TaskMaking):
    """What ``predict`` and the run folder show."""

    # What a user sees ---------------------------------------------------------------------------------------------

    def test_decode_gives_json(self) -> None:
        """``decode`` gives a list with an entry for each row, which JSON can write and other rows do not change."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 6)
        outputs = self.drawn(task, batch)
        shown = task.decode(outputs)
        demand(isinstance(shown, list), f"decode gives a {type(shown).__name__}, and no list")
        demand(len(shown) == len(outputs), f"decode gives {len(shown)} entries for {len(outputs)} rows")
        together = written("what decode gives", shown)
        for row in range(len(outputs)):
            alone = task.decode(outputs[row : row + 1])
            same = len(alone) == 1 and alike(written("what decode gives", alone)[0], together[row])
            demand(same, f"row {row} alone is decoded to {alone}, and among others to {together[row]}")

    def test_decode_honours_top(self) -> None:
        """A class each row: ``top`` entries, the likeliest first, and no more than there are classes."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 64)
        if task.per_step or not has_classes(task, batch):
            raise SkipTest("it does not put one class on a sequence")
        outputs = self.drawn(task, batch)
        most = task.decode(outputs, top=10_000)
        if not all(isinstance(entry, list) for entry in most):
            raise SkipTest("decode gives one value for a row, and no list")
        for top in (1, 2, 3):
            for entry, whole in zip(task.decode(outputs, top), most, strict=True):
                demand(len(entry) == min(top, len(whole)), f"top={top} gives {len(entry)} entries of {len(whole)}")
                demand(alike(entry, whole[:top]), f"top={top} gives {entry}, but the likeliest are {whole[:top]}")
        best = map(json.dumps, task.decode(self.perfect_outputs(task, batch), 1))
        shown = dict(zip(batch.targets.tolist(), best, strict=True))
        demand(
            len({*shown.values()}) == len(shown),
            f"{len(shown)} classes are all decoded to {', '.join({*shown.values()})}",
        )

    def test_labels_are_the_targets(self) -> None:
        """Where labels are named, a target is a label's place, and ``decode`` shows the label and its probability."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 64)
        if (names := task.label_names()) is None:
            raise SkipTest("it names no labels")
        sound = all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)
        demand(sound, f"the labels must be texts, all different; here are {str(names)[:80]}")
        highest = int(batch.targets.max())
        demand(highest < len(names), f"a target is {highest}, and there are {len(names)} labels")
        shown = task.decode(self.perfect_outputs(task, batch), 1)
        for target, entry in zip(batch.targets.tolist(), shown, strict=True):
            first = entry[0] if isinstance(entry, list) and entry else entry
            whole = isinstance(first, dict) and {"label", "probability"} <= first.keys()
            demand(whole, f"decode gives {str(entry)[:60]}, and no list of label and probability")
            demand(first["label"] == names[target], f"label {target} is {names[target]}, decoded as {first['label']}")
            demand(0 <= first["probability"] <= 1, f"a probability is {first['probability']}")
        for entry in task.decode(self.drawn(task, batch), 10_000):
            if not isinstance(entry, list) or len(entry) != len(names):
                continue
            found = [one["probability"] for one in entry]
            demand(
                abs(sum(found) - 1) < 1e-3, f"the probabilities of all {len(names)} labels add up to {sum(found):.4g}"
            )
            demand(found == sorted(found, reverse=True), f"the likeliest label must be first, not {found[:4]}")

    def test_report_stays_in_its_folder(self) -> None:
        """The report is tables that JSON can write, notes, and pictures in its folder; it writes nowhere else."""
        ready = self.ready()
        task, batch = ready.task, ready.batch("test", 1024)
        details = task.details()
        computed: dict[str, Tensor] = {}
        if details is not None:
            demand(task.details() is not details, "details() gives the same object at every call")
            computed = dict(updated(details, self.drawn(task, batch), batch.targets).compute())
        with tempfile.TemporaryDirectory() as name:
            folder, elsewhere = Path(name).resolve() / "run", Path(name).resolve() / "elsewhere"
            folder.mkdir()
            elsewhere.mkdir()
            with working_in(elsewhere):
                report = task.report(computed, folder)
            strays = [*elsewhere.iterdir(), *({*folder.parent.iterdir()} - {folder, elsewhere})]
            demand(not strays, f"the report writes {', '.join(path.name for path in strays)} outside its folder")
            check_report(report, folder)

    # The state ----------------------------------------------------------------------------------------------------

    def test_state_is_plain_json(self) -> None:
        """The state is a dict of plain JSON values."""
        check_plain("state_dict()", self.ready().task.state_dict())

    def test_state_is_taken_back(self) -> None:
        """A fresh task that loads the state has the same outputs and head, and decodes to the same, without data."""
        ready = self.ready()
        task, batch, fresh = ready.task, ready.batch("test", 16), self.make()
        with reads() as found:
            fresh.load_state_dict(json.loads(json.dumps(task.state_dict())))
        demand(not found, f"loading the state reads {'; '.join(found[:3])}")
        demand(fresh.outputs == task.outputs, f"outputs is {fresh.outputs} after loading, and was {task.outputs}")
        fresh.head(3)
        for outputs in (self.drawn(task, batch), self.perfect_outputs(task, batch)):
            got, expected = fresh.decode(outputs), task.decode(outputs)
            demand(got == expected, f"after loading {str(got[0])[:60]} is decoded, and {str(expected[0])[:60]} before")
        labels = getattr(task, "labels", None)
        demand(getattr(fresh, "labels", None) == labels, "the labels are not the same after loading")
        again = fresh.state_dict()
        demand(again == task.state_dict(), "the state of the task that loaded it is another one")

    def test_bad_states_are_refused(self) -> None:
        """A state that it did not write is refused with a ValueError."""
        check_refuses_bad_states(json.loads(json.dumps(self.ready().task.state_dict())), self.make)
