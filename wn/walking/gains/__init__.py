"""Gains of networks beside midpoints: which site wants how many repetitions."""
