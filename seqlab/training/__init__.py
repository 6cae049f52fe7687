"""Training, written once: one module, one data module, the run folder, ``run``.

Nothing is imported here: what only reads run folders need not wait for torch.
"""
