"""The tasks that come with seqlab."""
