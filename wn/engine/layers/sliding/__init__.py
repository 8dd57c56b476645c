"""Convolution and pooling with every setting: windows with gaps, any padding, groups of channels."""
