"""Tests of layers that compute nothing."""
