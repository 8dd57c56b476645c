"""The readable backend: NumPy."""
