"""Networks as graphs: the edges between layers, the stages that are run, draws of initial values."""
