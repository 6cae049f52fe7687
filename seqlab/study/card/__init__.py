"""Card of a cell: what it costs, how far it reaches and what it can track, by one protocol for every cell."""
