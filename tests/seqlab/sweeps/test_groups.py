"""Division of runs into groups that are trained together."""

from seqlab.sweeps.groups import grouped


def test_groups_differ_in_seed_rate_and_initialisation_only():
    runs = [
        [f"cell={cell}", f"seed={seed}", f"optimizer.lr={rate}"] for cell in ("gru", "lstm") for seed in (0, 1)
        for rate in (0.1, 0.2)
    ]  # fmt: skip
    assert grouped(runs) == [runs[:4], runs[4:]]
    assert [len(group) for group in grouped(runs, 4)] == [2, 2, 2, 2], "one for each process"
    assert [run for group in grouped(runs, 3) for run in group] == runs
    assert grouped([["a=1"], ["seed=1", "a=2"], ["a=1", "seed=1"]]) == [
        [["a=1"], ["a=1", "seed=1"]],
        [["seed=1", "a=2"]],
    ]
