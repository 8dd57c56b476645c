"""Closed forms to test the engine against: moments of the noise operators, propagation, exact accuracies."""
