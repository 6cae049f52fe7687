"""Launchers of sweeps; the modules are imported when one of them is chosen."""
