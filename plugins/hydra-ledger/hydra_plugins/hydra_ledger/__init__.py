"""Plugins of hydra-ledger, imported when its callback asks for them: Hydra imports no module with an underscore."""
