"""Networks on disk: populations of our own, single networks in PyTorch's layout."""
