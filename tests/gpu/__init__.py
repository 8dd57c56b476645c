"""What needs a GPU: tests, which are skipped without one, and `run`, which measures. See docs/gpu.md."""

from wn.basics.errors import WnError
from wn.engine.backends.cuda import device as cuda_device


def missing() -> str | None:
    """Return why the tests are skipped here, None if they are not; CuPy is imported where a GPU answers."""
    reason = cuda_device.missing()
    if reason is None:
        try:
            cuda_device.import_cupy("cupy")
        except WnError as error:
            return str(error)
    return reason


MISSING = missing()
REASON = f"needs a GPU: {MISSING}"
