"""What the paper's claims are about: weight growth, signal and noise, binarisation, repetitions."""
