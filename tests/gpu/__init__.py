"""What needs a GPU: tests, which are skipped without one, and `run`, which measures. See docs/gpu.md."""

from wn.backends import cuda_device

MISSING = cuda_device.missing()  # why the tests are skipped here, None if they are not
REASON = f"needs a GPU: {MISSING}"
