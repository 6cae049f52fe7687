"""Interleaved comparison of two functions: their rates and the ratio per round."""

import statistics
from collections.abc import Callable, Iterable, Mapping

import torch


def compare(ways: Mapping[str, Callable[[], float]], rounds: int, unit: str) -> None:
    """Measure two functions alternately after a warm-up round; print each round and the medians.

    Args:
        ways: functions that return a rate in ``unit`` per second, by name; the ratio is first / second.
        rounds: number of rounds.
        unit: of the rates.
    """
    (one, first), (other, second) = ways.items()
    pairs: list[tuple[float, float]] = []
    for turn in range(rounds + 1):
        pair = first(), second()
        if turn:
            pairs.append(pair)
            shown = f"round {turn}: {one} {pair[0]:,.0f}  {other} {pair[1]:,.0f}  ratio {pair[0] / pair[1]:.3f}"
            print(shown, flush=True)
    ratios = [a / b for a, b in pairs]
    rates = _median(a for a, _ in pairs)
    print(
        f"{torch.get_num_threads()} threads, {rounds} interleaved rounds: {one} {rates} {unit}/s,"
        f" {other} {_median(b for _, b in pairs)};"
        f" ratio {statistics.median(ratios):.3f} (spread {min(ratios):.3f}-{max(ratios):.3f})"
    )


def _median(rates: Iterable[float]) -> str:
    return f"{statistics.median(rates):,.0f}"
