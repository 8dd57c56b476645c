"""Numba backends whose recorded steps a test can look into, or that record none."""

from typing import Any

from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.backends.numba.recorded_calls import RecordedStep


class Anew(NumbaBackend):
    """Does every step anew."""

    def recorded(self, step: Any) -> Any:
        """Return the step as it is."""
        return step

    @property
    def blocks(self) -> int:
        """How many blocks of memory it has."""
        return len(self._work.blocks)


class Watched(Anew):
    """Keeps its last recorded step."""

    last: RecordedStep

    def recorded(self, step: Any) -> Any:
        """Return the step that is recorded when it comes first."""
        self.last = RecordedStep(self.recording, step)
        return self.last

    @property
    def blocks(self) -> int:
        """How many blocks of memory it has, those of the recorded step among them."""
        return super().blocks + len(self.last._work.blocks)
