"""Everything that computes: layers, backends, noise, networks, training."""
