"""A population in parts: halves where memory ends, and members that fail alone; finished work stays."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine import optim
from wn.engine.backends.plain.base import Backend
from wn.engine.ranges import OutOfRange
from wn.engine.training import Monitor, TrainingState

TOO_LARGE = "a single network does not fit into memory: use a smaller batch size, or another backend"

T = TypeVar("T")
Members = tuple[int, ...]  # numbers of members of a population


@contextmanager
def alone() -> Iterator[None]:
    """Work on a single network: where memory ends, a WnError says so, as there are no halves."""
    try:
        yield
    except MemoryError:
        raise WnError(TOO_LARGE) from None


class Keeper(Monitor):
    """Keeps the last state of a training, to go on from it in parts; another monitor sees all of it."""

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
Work = Callable[[Members, Keeper, TrainingState | None], T]
Fail = Callable[[Members, Exception], None]


def in_parts(
    be: Backend,
    members: Members,
    monitor: Monitor,
    work: Work[T],
    fail: Fail,
    start: TrainingState | None = None,
) -> Iterator[T]:
    """Yield the results of `work` on all members side by side, or on parts of them.

    - Where memory ends, each half goes on from the last step that the whole has done.
    - Members whose numbers leave the range of their type fail; the others go on from that step too.
    - After any other error, halves begin anew, until those to blame fail alone.

    `fail` is called with each failed member, and with several before they begin anew; an error that it raises
    ends the work. A single member without memory fails with a WnError.
    """
    if not members:
        return
    keeper = Keeper(monitor, start)
    parts = halves(members)
    try:
        found = work(members, keeper, start)
    except OutOfRange as error:
        done = 0 if keeper.state is None else keeper.state.epoch
        monitor.given_up(len(error.reasons), done)
        for index in error.reasons:
            fail((members[index],), error.of_member(index))
        parts = [tuple(number for index, number in enumerate(members) if index not in error.reasons)]
    except MemoryError:
        if not parts:
            fail(members, WnError(TOO_LARGE))
    except Exception as error:
        fail(members, error)
        keeper.state = None
    else:
        yield found
        return
    be.release()  # not within an except clause: the traceback of an error holds arrays
    for part in parts:
        state = of_members(keeper.state, [members.index(number) for number in part])
        yield from in_parts(be, part, monitor, work, fail, state)


def halves(members: Members) -> list[Members]:
    """Both halves of some members; none of a single one."""
    middle = len(members) // 2
    return [members[:middle], members[middle:]] if middle else []


def of_members(state: TrainingState | None, members: Sequence[int]) -> TrainingState | None:
    """The state of some members of a population, in arrays of its own."""
    if state is None:
        return None
    tree = (state.params, state.states, state.adam, state.losses)
    some = (array[list(members)] for array in optim.arrays(tree))
    params, states, adam, losses = optim.with_arrays(tree, some)
    return state._replace(params=params, states=states, adam=adam, losses=losses)
