"""Tests of convolutions and poolings with every setting."""
