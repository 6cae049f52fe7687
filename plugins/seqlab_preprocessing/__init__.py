"""Text preprocessing: cleaning steps and tokenisers."""
