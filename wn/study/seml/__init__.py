"""Import of the experiment files that the authors of Walking Noise published for seml."""
