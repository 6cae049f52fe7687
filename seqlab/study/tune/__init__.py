"""Search of settings on the validation split: space, study, processes, results."""
