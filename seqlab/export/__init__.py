"""A trained model as others can run it: a file, compared with the run, and what has to travel with it."""
