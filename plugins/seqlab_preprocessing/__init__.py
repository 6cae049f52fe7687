"""How texts become token ids."""
