"""Studies of trained models: horizons, gradient flow, context use, comparison, reports."""
