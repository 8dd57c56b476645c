"""Tests of the independent evidence: the naive layers are themselves checked."""
