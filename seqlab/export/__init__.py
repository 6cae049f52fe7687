"""Export of trained models to files that run without seqlab, each compared with the run."""
