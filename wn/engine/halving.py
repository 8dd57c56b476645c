"""Work on a population that does not fit into memory, in halves; what is done stays done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wn.engine import optim
from wn.engine.backends.plain.base import Backend
from wn.engine.training import Monitor, TrainingState
from wn.errors import WnError

TOO_LARGE = "a single network does not fit into memory: use a smaller batch size, or another backend"

T = TypeVar("T")


@contextmanager
def alone() -> Iterator[None]:
    """Work on a single network: where memory ends, a WnError says so, as there are no halves."""
    try:
        yield
    except MemoryError:
        raise WnError(TOO_LARGE) from None


class Keeper(Monitor):
    """Keeps the last state of a training, to go on from where memory ends; another monitor sees all of it."""

    def __init__(self, monitor: Monitor, start: TrainingState | None) -> None:
        self.monitor, self.state = monitor, start

    def trained(self, state: TrainingState) -> None:
        """Keep the state."""
        self.state = state
        self.monitor.trained(state)

    def step(self) -> None:
        """Pass it on."""
        self.monitor.step()

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        """Pass it on; the next step is one of the next epoch."""
        self.monitor.epoch(epoch, loss)
        if self.state is not None:
            self.state = self.state._replace(epoch=epoch + 1, batches=0)


# work(members, monitor of the training, state to go on from) on some members of a population
Work = Callable[[slice, Keeper, TrainingState | None], T]


def fitting(
    be: Backend, members: slice, monitor: Monitor, work: Work[T], start: TrainingState | None = None
) -> Iterator[T]:
    """Yield what `work` makes of all members, or of parts of them if its memory ends.

    Each half goes on from the last step that the whole has done. Raises WnError if one member is too large.
    """
    keeper = Keeper(monitor, start)
    try:
        yield work(members, keeper, start)
        return
    except MemoryError:
        pass  # with the error its traceback goes, which holds arrays
    for half in halves(be, members):
        state = of_members(keeper.state, slice(half.start - members.start, half.stop - members.start))
        yield from fitting(be, half, monitor, work, state)


def halves(be: Backend, members: slice) -> tuple[slice, slice]:
    """Return both halves of some members whose memory ended; WnError if there is only one."""
    if members.stop - members.start == 1:
        raise WnError(TOO_LARGE)
    be.release()  # the arrays of what failed are gone by now
    middle = (members.start + members.stop) // 2
    return slice(members.start, middle), slice(middle, members.stop)


def of_members(state: TrainingState | None, members: slice | list[int]) -> TrainingState | None:
    """Return the state of some members of a population, in arrays of its own."""
    if state is None:
        return None
    tree = (state.params, state.states, state.adam, state.losses)
    some = (array[members].copy() for array in optim.arrays(tree))
    params, states, adam, losses = optim.rebuilt(tree, some)
    return state._replace(params=params, states=states, adam=adam, losses=losses)
