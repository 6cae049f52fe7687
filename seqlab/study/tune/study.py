"""Study of a search: Optuna proposes trials, keeps them in a SQLite file, and stops those that fall behind.

Optuna is used itself, not through hydra-optuna-sweeper: that plugin has a storage, but hands no trial to a run, so that
nothing can be stopped early, starts trials in batches that wait for the slowest, and leaves a trial whose process died
as running for ever.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from seqlab.contracts import Choice, UserError
from seqlab.contracts.space import Dimension
from seqlab.study.tune.space import Space

DATABASE = "study.db"
_NAME = "tune"
_RUNG, _FACTOR = 15, 3
"""Successive halving after 15 and 45 % of a trial's updates: the best third goes on."""
WORDS, ROLE, RUN, CAUSE, SECONDS, METRICS = "words", "role", "run", "cause", "seconds", "metrics"
"""User attributes of a trial."""
_LOCKED = 60
"""Seconds to wait for another process, such as a dashboard, that reads the storage."""

State = Literal["complete", "pruned", "failed", "running"]


@final
@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0.
        words: overrides of its run.
        state: ``complete``; ``pruned``, stopped early or the same as an earlier one; ``failed``; ``running``, or
            stopped and to be resumed.
        role: ``default``, ``linear`` or ``first``, if it is not sampled.
        run: name of the run folder.
        value: validation metric; of a pruned trial, the last one.
        metrics: all validation metrics of the best weights, if it is complete.
        cause: why it failed.
        seconds: duration.
        params: values by dimension.
    """

    number: int
    words: tuple[str, ...]
    state: State
    role: str | None
    run: str | None
    value: float | None
    metrics: Mapping[str, float]
    cause: str | None
    seconds: float
    params: Mapping[str, Any]

    @property
    def is_kept(self) -> bool:
        """Whether it is never stopped early: the default and the linear baseline, which the winner is compared with."""
        return self.role in ("default", "linear")


def require_optuna() -> Any:
    """Import Optuna.

    Raises:
        UserError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            import optuna
    except ModuleNotFoundError as error:
        raise UserError(f'tune: {error.name} is not installed; `pip install "seqlab[tune]"`') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@final
class Study:
    """Trials of a search, in ``study.db``; one process at a time uses it.

    Args:
        folder: of the search.
        space: to sample.
        maximises: whether a larger value is better.
        seed: of the sampler.
        roles: overrides by role of the trials to start with.
    """

    def __init__(
        self, folder: Path, space: Space, *, maximises: bool, seed: int, roles: Mapping[str, Sequence[str]]
    ) -> None:
        self._optuna = optuna = require_optuna()
        self._space, self._maximises = space, maximises
        folder.mkdir(parents=True, exist_ok=True)
        with _quiet():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{(folder / DATABASE).resolve()}", engine_kwargs={"connect_args": {"timeout": _LOCKED}}
            )
            self._study = optuna.create_study(
                study_name=_NAME,
                storage=storage,
                direction="maximize" if maximises else "minimize",
                pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=_RUNG, reduction_factor=_FACTOR),
                load_if_exists=True,
            )
            # A sampler that continues must not repeat what it drew first.
            self._study.sampler = optuna.samplers.TPESampler(
                seed=seed + len(self._study.get_trials(deepcopy=False)),
                multivariate=True,
                group=True,
                constant_liar=True,
            )
            known = {trial.user_attrs.get(ROLE) for trial in self._study.get_trials(deepcopy=False)}
            for role, words in roles.items():
                if role not in known:
                    self._study.enqueue_trial(self._params(words), user_attrs={ROLE: role, WORDS: list(words)})

    @property
    def trials(self) -> list[Trial]:
        """All trials that were started, in order."""
        states = self._optuna.trial.TrialState
        return [_trial(each) for each in self._study.get_trials(deepcopy=False) if each.state != states.WAITING]

    def ask(self) -> Trial:
        """Start a trial; its overrides are stored before this returns."""
        with _quiet():
            return self._sampled(self._study.ask())

    def unfinished(self) -> list[Trial]:
        """Return the trials that were started and have not ended."""
        states = (self._optuna.trial.TrialState.RUNNING,)
        running = self._study.get_trials(deepcopy=False, states=states)
        with _quiet():  # a process may have died before its trial was sampled
            return [_trial(each) if WORDS in each.user_attrs else self._sampled(self._live(each)) for each in running]

    def set_run(self, number: int, run: str) -> None:
        """Store the name of a trial's run folder."""
        self._live(self._frozen(number)).set_user_attr(RUN, run)

    def report(self, number: int, step: int, value: float) -> bool:
        """Store the metric after ``step`` per cent of a trial; return whether to stop it."""
        frozen = self._frozen(number)
        trial = self._live(frozen)
        if step not in frozen.intermediate_values:  # of an epoch that was repeated after a crash
            trial.report(value, step)
        return step < 100 and not _trial(frozen).is_kept and bool(trial.should_prune())

    def tell(
        self,
        number: int,
        state: Literal["complete", "pruned", "failed"],
        value: float | None = None,
        *,
        seconds: float = 0.0,
        cause: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """End a trial."""
        trial, states = self._live(self._frozen(number)), self._optuna.trial.TrialState
        if metrics:
            trial.set_user_attr(METRICS, dict(metrics))
        if cause:
            trial.set_user_attr(CAUSE, cause)
        trial.set_user_attr(SECONDS, seconds)
        kind = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
        with _quiet():
            self._study.tell(number, value if state == "complete" else None, kind)

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the complete trial of the best value, of equal ones the first."""
        sign = 1 if self._maximises else -1
        complete = [each for each in trials if each.state == "complete" and each.value is not None]
        return max(complete, key=lambda each: (sign * (each.value or 0), -each.number), default=None)

    def importances(self, group: str | None = None) -> dict[str, float]:
        """Return the importance of each dimension, largest first, by PED-ANOVA (Watanabe et al. 2023).

        Args:
            group: of trials with this model only, whose own dimensions are compared; ``None``: of all.

        Returns:
            Shares whose sum is 1; empty where there are too few trials, or all values are equal.
        """
        optuna = self._optuna
        chosen = [
            each
            for each in self._study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
            if group is None or f"model={group}" in each.user_attrs.get(WORDS, ())
        ]
        if len({each.value for each in chosen}) < 2:
            return {}
        with _quiet():
            part = optuna.create_study(direction=self._study.direction)
            part.add_trials(chosen)
            try:
                found: dict[str, float] = optuna.importance.get_param_importances(
                    part, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
                )
            except (ValueError, RuntimeError):  # fewer than two trials, or none that differ
                return {}
        varied = {name: share for name, share in found.items() if group is None or name != "model"}
        total = sum(varied.values())
        return {name: share / total for name, share in sorted(varied.items(), key=lambda item: -item[1]) if total}

    def _frozen(self, number: int) -> Any:
        return self._study.get_trials(deepcopy=False)[number]

    def _live(self, frozen: Any) -> Any:
        return self._optuna.trial.Trial(self._study, frozen._trial_id)

    def _sampled(self, trial: Any) -> Trial:
        """Sample the dimensions that a trial lacks.

        Raises:
            UserError: a dimension has other values than in the trials before.
        """
        try:
            words = self._space.overrides(lambda name, dimension: _suggest(trial, name, dimension))
        except ValueError as error:
            raise UserError(
                "the values to search are not those of the trials so far: a plugin, an optional package or seqlab has"
                " changed; start another search with --out FOLDER"
            ) from error
        if WORDS not in trial.user_attrs:
            trial.set_user_attr(WORDS, words)
        return _trial(self._frozen(trial.number))

    def _params(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the values of the dimensions of a trial: of its overrides, or the defaults."""
        given = dict(word.partition("=")[::2] for word in words)
        params: dict[str, Any] = {}

        def read(name: str, dimension: Dimension) -> Any:
            group, equals, rest = name.partition("=")
            key = f"{group}.{rest.partition('.')[2]}" if equals else name
            text = given.get(key)
            if text is None and (default := self._space.defaults.get(name)) is not None:
                known = dimension.values if isinstance(dimension, Choice) else ()
                text = str(default) if default in known or isinstance(default, int | float) else None
            if isinstance(dimension, Choice):
                value: Any = text if text in dimension.values else dimension.values[0]
            else:
                value = min(max(float(text or 0), dimension.low), dimension.high)
            if text is not None:
                params[name] = value
            return value

        self._space.overrides(read)
        return params


def _suggest(trial: Any, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, dimension.values)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def _trial(frozen: Any) -> Trial:
    attributes, last = frozen.user_attrs, frozen.last_step
    state: State = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(frozen.state.name, "running")  # type: ignore[assignment]  # of strings of this type
    value = frozen.value if state == "complete" else frozen.intermediate_values.get(last)
    return Trial(
        number=frozen.number,
        words=tuple(attributes.get(WORDS, ())),
        state=state,
        role=attributes.get(ROLE),
        run=attributes.get(RUN),
        value=value,
        metrics=attributes.get(METRICS, {}),
        cause=attributes.get(CAUSE),
        seconds=attributes.get(SECONDS, 0.0),
        params=dict(frozen.params),
    )


class _quiet(warnings.catch_warnings):  # noqa: N801  # a context, as its base is
    """Hide the warnings of Optuna that some of its arguments are experimental."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered
