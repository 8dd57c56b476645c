"""How many threads a step is worth: all that it may have, or one where others keep the processors busy.

The threads of a step wait for each other dozens of times. On an idle machine that costs microseconds; where
another program has a processor, everybody waits for the thread that was put off, and a step can take
ten times as long as in one thread. No result depends on the number of threads: it may change at any step.
"""

from statistics import median

FIRST = 2  # steps that are not looked at: compiling and first touches of memory
TRIAL = 3  # steps with each number of threads, before a choice is made
EVERY = 250  # steps until the next choice, if all threads were the faster choice
SOON, LATE = 40, 1280  # if they were not: at first, and at most, each time twice as many as before
BAD, BAD_STEPS = 3.0, 3  # so many times as long as expected, so often in a row: the machine has become busy


class Pace:
    """Chooses the number of threads of each step from what steps took."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.trial: list[int] = [most] * FIRST + [1] * TRIAL + [most] * TRIAL if most > 1 else []
        self.took: dict[int, list[float]] = {1: [], most: []}
        self.skip, self.chosen, self.expected, self.bad = FIRST, most, 0.0, 0
        self.left, self.soon = EVERY, SOON

    def threads(self) -> int:
        """Return the number of threads of the next step."""
        return self.trial[0] if self.trial else self.chosen

    def step(self, seconds: float) -> None:
        """Take note of what a step took."""
        if self.most == 1:
            return
        if self.trial:
            self._try(seconds)
        else:
            self._watch(seconds)

    def _try(self, seconds: float) -> None:
        threads = self.trial.pop(0)
        if self.skip:
            self.skip -= 1
            return
        self.took[threads].append(seconds)
        alone = self.took[1]
        if threads == self.most and alone and seconds > BAD * median(alone):
            self.trial.clear()  # one such step says enough
        if not self.trial:
            medians = {number: median(took) for number, took in self.took.items() if took}
            self.chosen = min(medians, key=lambda number: medians[number])
            self.expected, self.bad = medians[self.chosen], 0
            if self.chosen == self.most:
                self.left, self.soon = EVERY, SOON
            else:
                self.left, self.soon = self.soon, min(2 * self.soon, LATE)

    def _watch(self, seconds: float) -> None:
        self.bad = self.bad + 1 if seconds > BAD * self.expected else 0
        self.left -= 1
        if not self.left or (self.bad == BAD_STEPS and self.chosen > 1):
            self.trial = [1] * TRIAL + [self.most] * TRIAL
            self.took = {1: [], self.most: []}
