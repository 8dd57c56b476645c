"""Tests of the public testing toolkit: the checkers must catch planted bugs."""
