"""The midpoint of an accuracy curve, and its interval."""
