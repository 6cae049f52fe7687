"""The long-range study: how far back a cell remembers, and why no further."""
