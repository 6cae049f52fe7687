"""Search: asks for trials, has them trained, stops those that fall behind, and scores the test split at the end."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torchmetrics import MetricCollection

from seqlab.config.compose import Composer
from seqlab.config.schema import plain_config
from seqlab.contracts import Task, UserError
from seqlab.data.fingerprint import differences, fingerprint
from seqlab.io.atomic import write_json
from seqlab.io.formatting import relative_path, shell_command
from seqlab.runs.run_folder import RESULTS, find_json, read_json
from seqlab.study.tune.processes import Died, Processes
from seqlab.study.tune.space import linear_overrides, read_space
from seqlab.study.tune.study import Study, Trial
from seqlab.study.tune.worker import End, Epoch, Job
from seqlab.sweeps.ledger import write_plan
from seqlab.sweeps.plan import run_name
from seqlab.training.session import prepare_data

FILE = "tune.json"
SCHEMA = 1
_PREFERRED = "macro_f1"
"""The metric to search by, where a task has it: accuracy hides rare classes."""
_DEATHS = 2
"""How often the process of a trial may die."""
_FAILURES = 5
"""Failed trials, none being complete, after which a search ends."""
_REPEATS = 20
"""Trials in a row that repeat earlier ones, after which a search ends."""
_SAVE_EVERY = 5.0
"""Seconds between two records of the time used."""


@final
@dataclass(frozen=True)
class Settings:
    """Settings of a search.

    Attributes:
        folder: of the search.
        overrides: fixed and searched ones.
        metric: of validation; ``None``: macro F1 where the task has it, else the metric that it monitors.
        seed: of the sampler.
        processes: that train.
        minutes: budget of all calls; ``None``: no limit.
        trials: number of trials of all calls; ``None``: no limit.
        key: hash of overrides, metric and seed, by which a search is continued.
    """

    folder: Path
    overrides: tuple[str, ...]
    metric: str | None = None
    seed: int = 0
    processes: int = 1
    minutes: float | None = None
    trials: int | None = None
    key: str = ""


@final
@dataclass(frozen=True)
class Row:
    """A model of the last table.

    Attributes:
        title: ``winner``, ``linear baseline``, ``default model``, ``best recurrent`` or ``best trial``.
        trial: its trial.
        record: its ``results.json``.
        folder: of its run.
    """

    title: str
    trial: Trial
    record: dict[str, Any]
    folder: Path

    @property
    def label(self) -> str:
        """The title, with what the winner is if it was not sampled."""
        known = {"linear": "linear baseline", "default": "default model"}.get(self.trial.role or "")
        return f"{self.title} ({known})" if known and known != self.title else self.title


@final
class Search:
    """A search; the same command goes on with it, after whatever stopped it.

    Attributes:
        space: that is searched.
        study: the trials; :meth:`open` makes it.
        progress: by trial, the last validation of those that are running.
        metric: of validation that is searched.
        maximises: whether a larger value is better.
        data: fingerprint of the data, prepared as by default.

    Args:
        settings: of the search.
        on_change: called when a trial made progress, and every half second.

    Raises:
        UserError: the overrides make no search, or the data cannot be read.
        hydra.errors.HydraException: an override cannot be composed.
    """

    study: Study

    def __init__(self, settings: Settings, on_change: Callable[["Search"], None] = lambda _: None) -> None:
        self._began: float | None = time.monotonic()
        self.settings, self._on_change = settings, on_change
        self.progress: dict[int, Epoch] = {}
        self.composer, self._deaths = Composer(), Counter[int]()
        self.space = read_space(settings.overrides, self.composer)
        default = self.space.default_overrides()
        config = plain_config(self.composer.checked(default))
        _check_config(config)
        task, data = prepare_data(config)
        self.data = fingerprint(data)
        self.metric, self.maximises = _metric(task, settings.metric)
        linear = linear_overrides(self.space, task)
        roles = {"linear": linear, "default": default, "first": self.space.first_overrides()}
        self._roles = {role: words for role, words in roles.items() if words is not None}
        self._used, self._saved, self._is_exhausted = 0.0, 0.0, False
        self._record: dict[str, Any] = {}

    def open(self) -> None:
        """Open the study in the folder of the search, which this process owns.

        Raises:
            UserError: the folder is of another search, or of something else.
        """
        folder = self.settings.folder
        folder.mkdir(parents=True, exist_ok=True)
        record = find_json(folder / FILE, plain=True)
        _check_folder(folder, record, self.settings.key, self.data)
        self._record = record or {}
        self._used = float(self._record.get("seconds", 0.0))
        if self.settings.minutes is not None and self._used >= 60 * self.settings.minutes:
            self._began = None  # only the results are shown
        self._save(at_once=True)  # before other files, so that the folder is known by it
        self.study = Study(folder, self.space, maximises=self.maximises, seed=self.settings.seed, roles=self._roles)

    @property
    def seconds(self) -> float:
        """Seconds that all calls searched."""
        return self._used + (0.0 if self._began is None else time.monotonic() - self._began)

    @property
    def has_time(self) -> bool:
        """Whether the budget of minutes is not used up."""
        return self.settings.minutes is None or self.seconds < 60 * self.settings.minutes

    def run(self, on_scoring: Callable[[], None] = lambda: None) -> list[Row]:
        """Run trials until the budget is used up; then score the test split with the chosen models.

        Args:
            on_scoring: called between the two.

        Returns:
            The winner, the linear baseline, the default model and the best model of the default's kind, all chosen by
            validation; what was scored by an earlier call is read.

        Raises:
            UserError: the first trials failed, no trial is complete, or a chosen run cannot be scored.
            KeyboardInterrupt: Ctrl-C; the trials that were running can be resumed.
        """
        processes = Processes(self.settings.processes, self.settings.folder, self.metric)
        try:
            self._search(processes)
            chosen = self._chosen()
            on_scoring()
            return self._finish(chosen, processes)
        finally:
            processes.stop()
            self._save(at_once=True)

    def _search(self, processes: Processes) -> None:
        left, is_over = self._continued(), False
        while True:
            while processes.is_free and self.has_time and (trial := left.pop(0) if left else self._ask()):
                self._write_plan()
                processes.start(Job(trial.number, trial.words, str(trial.run)))
            if not processes.jobs:
                self._used, self._began = self.seconds, None
                return
            if not self.has_time and not is_over:
                is_over = True
                processes.interrupt()
            for job, event in processes.events(0.5):
                self._handle(job, event, processes, left)
            self._on_change(self)
            self._save()

    def _continued(self) -> list[Trial]:
        """Return the trials to go on with; an earlier call may have been killed before it named the run of one."""
        for trial in self.study.unfinished():
            self._is_new(trial, [each for each in self.study.trials if each.number < trial.number])
        return self.study.unfinished()

    def _ask(self) -> Trial | None:
        """Ask for a trial that is no repetition; ``None`` if there are enough."""
        for _ in range(0 if self._is_exhausted else _REPEATS):
            known = self.study.trials
            if self.settings.trials is not None and len(known) >= self.settings.trials:
                return None
            _check_failures(known)
            trial = self.study.ask()
            if self._is_new(trial, known):
                return self._stored(trial.number)
        self._is_exhausted = True  # else a free process would ask again and again until the others end
        return None

    def _stored(self, number: int) -> Trial:
        return next(each for each in self.study.trials if each.number == number)

    def _is_new(self, trial: Trial, known: Sequence[Trial]) -> bool:
        """Store the run of a trial; end the trial if it cannot be composed or repeats one of the others."""
        try:
            run = run_name(self.composer.checked(trial.words))
        except UserError as error:
            self.study.tell(trial.number, "failed", cause=str(error))
            return False
        self.study.set_run(trial.number, run)
        same = next((each for each in known if each.run == run), None)
        if same is None:
            return True
        if same.state == "complete":
            self.study.tell(trial.number, "complete", same.value, cause=f"as trial {same.number}")
        else:
            self.study.tell(trial.number, "pruned", cause=f"as trial {same.number}")
        return False

    def _handle(self, job: Job, event: Epoch | End | Died, processes: Processes, left: list[Trial]) -> None:
        if isinstance(event, Epoch):
            self.progress[job.number] = event
            processes.answer(job, stop=self.study.report(job.number, event.percent, event.value))
            return
        self.progress.pop(job.number, None)
        if isinstance(event, Died):
            self._deaths[job.number] += 1
            if self._deaths[job.number] < _DEATHS:
                left.append(self._stored(job.number))
            else:
                self.study.tell(job.number, "failed", cause=f"its process died {_DEATHS} times")
        elif event.state == "stopped":
            left.append(self._stored(job.number))
        else:
            self._tell(job.number, event)

    def _tell(self, number: int, event: End) -> None:
        state, value = event.state, event.metrics.get(self.metric)
        assert state != "stopped"
        if state == "complete" and (value is None or value != value):
            self.study.tell(number, "failed", cause=f"validation {self.metric} is no number", seconds=event.seconds)
        else:
            self.study.tell(number, state, value, seconds=event.seconds, cause=event.cause, metrics=event.metrics)

    def _finish(self, chosen: dict[str, Trial], processes: Processes) -> list[Row]:
        self._score({trial.run: trial for trial in chosen.values() if trial.run is not None}, processes)
        rows = [
            Row(title, trial, read_json(place / RESULTS), place)
            for title, trial in chosen.items()
            if (place := self.settings.folder / str(trial.run))
        ]
        self._write_plan()
        return rows

    def _chosen(self) -> dict[str, Trial]:
        trials = self.study.trials
        winner = self.study.best(trials)
        if winner is None:
            _check_failures(trials, least=1)
            raise UserError(
                f"no trial is complete after {self.seconds / 60:.1f} minutes; repeat the command with more --minutes"
            )
        chosen = {"winner": winner}
        by_role = {trial.role: trial for trial in trials if trial.state == "complete"}
        for role, title in (("linear", "linear baseline"), ("default", "default model")):
            if role in by_role and by_role[role].run != winner.run:
                chosen[title] = by_role[role]
        model = _model(winner)
        default = by_role.get("default")
        if default is not None and model != _model(default):
            same = [trial for trial in trials if _model(trial) == _model(default)]
            best = self.study.best(same)
            if best is not None and best.run != default.run:
                chosen[f"best {_model(default)}"] = best
        return chosen

    def _score(self, trials: dict[str, Trial], processes: Processes) -> None:
        """Score the test split with the runs that are not scored yet."""
        waiting = [trial for run, trial in trials.items() if not (self.settings.folder / run / RESULTS).is_file()]
        deaths = Counter[int]()
        while waiting or processes.jobs:
            while waiting and processes.is_free:
                trial = waiting.pop(0)
                processes.start(Job(trial.number, trial.words, str(trial.run), "finish"))
            for job, event in processes.events(0.5):
                deaths[job.number] += isinstance(event, Died)
                if isinstance(event, Died) and deaths[job.number] < _DEATHS:
                    processes.start(job)
                elif not isinstance(event, End) or event.state != "complete":
                    cause = event.cause if isinstance(event, End) else "its process died"
                    raise UserError(f"trial {job.number} cannot be scored: {cause}; repeat the command to go on")

    def _write_plan(self) -> None:
        runs = {trial.run: trial.words for trial in self.study.trials if trial.run is not None}
        write_plan(self.settings.folder, self.settings.overrides, runs, open=True)

    def _save(self, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._saved > _SAVE_EVERY:
            self._saved = time.monotonic()
            now = {"schema": SCHEMA, "key": self.settings.key, "data": self.data, "metric": self.metric}
            write_json(self.settings.folder / FILE, {**self._record, **now, "seconds": self.seconds})


def _model(trial: Trial) -> str:
    return next((word.partition("=")[2] for word in trial.words if word.startswith("model=")), "")


def _check_config(config: dict[str, Any]) -> None:
    task = config["task"]
    if task.get("folds") is not None and task.get("fold") is None:
        raise UserError("task.folds: tune compares settings on one division; give task.folds to the winner's command")
    trainer = config["trainer"]
    if trainer["devices"] not in (1, "1") or trainer["num_nodes"] != 1:
        raise UserError("tune trains each trial on one device: set trainer.devices=1, and --processes N for several")
    if trainer["replicas"] != 1:
        raise UserError("trainer.replicas: tune trains each trial once; give trainer.replicas to the winner's command")


def _check_folder(folder: Path, record: Mapping[str, Any] | None, key: str, data: Mapping[str, Any]) -> None:
    """Refuse a folder of something else, or of a search whose trials are not comparable with those to come."""
    name = relative_path(folder)
    if record is None:
        if others := sorted(each.name for each in folder.iterdir() if not each.name.startswith(".")):
            raise UserError(f"{name} holds {others[0]}, which no search wrote; choose another folder with --out")
    elif record.get("key") != key:
        raise UserError(
            f"{name} holds a search with other overrides, --metric or --seed; repeat its command, or choose another"
            " folder with --out"
        )
    elif changes := differences(record["data"], data):
        raise UserError(f"{name} holds a search on other data ({changes[0]}); choose another folder with --out")


def _check_failures(trials: Sequence[Trial], least: int = _FAILURES) -> None:
    """Refuse to go on where no trial is complete and several failed."""
    failed = [trial for trial in trials if trial.state == "failed"]
    if len(failed) >= least and not any(trial.state in ("complete", "pruned") for trial in trials):
        raise UserError(f"the first {len(failed)} trials failed; trial {failed[0].number}: {failed[0].cause}")


def _metric(task: Task, name: str | None) -> tuple[str, bool]:
    """Return the metric to search by, and whether a larger value is better.

    Raises:
        UserError: the task has no such metric, or does not say which value is better.
    """
    metrics: MetricCollection = task.metrics()
    known = {str(each): metric for each, metric in metrics.items()}
    chosen = name or (_PREFERRED if _PREFERRED in known else task.monitor)
    if chosen == task.monitor:
        return chosen, task.mode == "max"
    if chosen not in known:
        raise UserError(f"--metric {chosen}: the task has {', '.join(known)}")
    better: Any = getattr(known[chosen], "higher_is_better", None)
    if better is None:
        raise UserError(f"--metric {chosen} does not say whether a larger value is better; use {task.monitor}")
    return chosen, bool(better)


def repeat_command(arguments: Sequence[str]) -> str:
    """Return the command that goes on with a search."""
    return shell_command("tune", *arguments)
