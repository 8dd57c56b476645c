"""Networks as values: made of lists of layers, described, and with their weights."""
