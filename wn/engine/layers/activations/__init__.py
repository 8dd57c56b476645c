"""Activations: functions of one element each, any shape (P, …, B). Derived in docs/layers/activations.md."""
