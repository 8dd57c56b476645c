"""Predicted curves: accuracy over σ by moments of the logits, without draws."""
