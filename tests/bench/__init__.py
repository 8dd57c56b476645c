"""Benchmarks: this engine against its peers, in one run. See run.py; nothing here is a test."""
