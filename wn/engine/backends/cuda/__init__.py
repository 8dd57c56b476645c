"""The backend on NVIDIA GPUs: CuPy and kernels of our own."""
