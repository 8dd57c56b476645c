"""What needs a GPU: tests, which are skipped without one, and `run`, which measures. See docs/gpu.md."""
