"""How a metric is written for people."""


def written(value: float, sign: str = "") -> str:
    """Write a metric with four decimals, or with three digits where four decimals would hide it.

    Args:
        value: the metric.
        sign: ``+`` writes the sign of a positive one, too.
    """
    kind = ".4f" if value == 0 or not abs(value) < 0.001 else ".2e"
    return f"{value:{sign}{kind}}"
