"""Learning rate of a cell, chosen on validation by short runs."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.runs.results import read_results
from seqlab.study.card.measure import Measurement, limits_of
from seqlab.study.card.pool import run_folder
from seqlab.study.card.protocol import Part
from seqlab.sweeps.ledger import read_entry


def choose_rate(measurement: Measurement) -> dict[str, Any]:
    r"""Train the pilot at each learning rate, and choose the one with the most progress on its tasks.

    .. math:: p = \max\left(0, \frac{s - s_0}{s^* - s_0}\right)

    of a validation score :math:`s`, that of the input-independent baseline :math:`s_0`, and the best possible one
    :math:`s^*`. A run that solves its task stops there and has made all, one that fails none. Of equal rates the one
    that the protocol names first is chosen.

    Args:
        measurement: of the card; its ``rate`` is set.

    Returns:
        ``chosen``, ``tried``, and ``rows`` with the mean progress over the seeds at each rate.

    Raises:
        UserError: a run of the pilot has not ended, so that the rate would depend on which had.
    """
    protocol = measurement.protocol
    rates, rows = protocol.learning_rates, list[dict[str, Any]]()
    for pilot in protocol.pilots:
        measurement.train([pilot], rates)
        for row in pilot.rows:
            if measurement.missing_reason(pilot, row) is None:
                found = [_mean_progress(measurement, pilot, row, rate) for rate in rates]
                rows.append({"label": row.label, "progress": found})
    means = [statistics.fmean(row["progress"][place] for row in rows) if rows else 0.0 for place in range(len(rates))]
    measurement.rate = rates[means.index(max(means))]
    return {"chosen": measurement.rate, "tried": list(rates), "rows": rows}


def _mean_progress(measurement: Measurement, part: Part, row: Any, rate: float) -> float:
    folders = [
        run_folder(measurement.runs, measurement.run_words(part, row, seed, rate))
        for seed in range(measurement.protocol.pilot_seeds)
    ]
    return statistics.fmean(_progress_of(folder, part) for folder in folders)


def _progress_of(folder: Path, part: Part) -> float:
    """Return the progress of a run that has ended; 0 if it failed."""
    if (state := read_entry(folder).state) not in ("done", "failed"):
        raise UserError(f"learning rate: {relative_path(folder)} of the pilot is {state}; repeat the command to go on")
    return progress(read_results(folder), part) if state == "done" else 0.0


def progress(record: Mapping[str, Any], part: Part) -> float:
    """Return the share of the way from the baseline to the best possible validation score; 1 if the task is solved."""
    if record["best"]["verdict"] == "solved":  # by how much is chance: training stopped at the criterion
        return 1.0
    monitor, mode = record["best"]["monitor"], record["best"]["mode"]
    low, high = limits_of(record, monitor, part)
    best = low if mode == "min" else high
    value, baseline = record["metrics"]["valid"].get(monitor), record["chance"]["valid"].get(monitor)
    if value is None or baseline is None or best is None or best == baseline:
        return 0.0
    return max(0.0, float(value - baseline) / float(best - baseline))
