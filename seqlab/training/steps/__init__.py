"""Steps of training: the loop over the batches of an epoch, and its number of threads."""
