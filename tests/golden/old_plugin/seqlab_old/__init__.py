"""A plugin of each kind, written for the contracts of seqlab 0.1."""
