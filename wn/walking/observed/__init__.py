"""What is observed of networks besides accuracy: power of signals, statistics of weights, binarisation."""
