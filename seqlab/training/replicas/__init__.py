"""Replicas: runs of models of one shape that train in one process, each step of all as one batched computation."""
