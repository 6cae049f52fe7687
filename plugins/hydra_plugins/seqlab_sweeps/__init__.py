"""Launchers and sweepers of seqlab.

Hydra imports every module here whose name does not begin with an underscore; these are imported when they are chosen.
"""
