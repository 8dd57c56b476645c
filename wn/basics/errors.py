"""The errors that a user can cause: one line each, naming the thing and what is allowed."""


class WnError(ValueError):
    """Bad input: the message names the thing that is wrong and what is allowed instead."""


class DataError(WnError):
    """A data file is missing or does not hold what its format promises."""


def first_line(error: Exception) -> str:
    """The first line of what an error says, its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
