"""Numbers among values, and in text as flags and files give them: plain forms, and no guess at a comma.

A number has ASCII digits, a decimal point, and no leading zeros: 0.5, .5, 5., 1e-3. Numbers of a list have
commas between them. Many languages write 0,5 for 0.5, so a comma is refused where it can be read so:

- two whole numbers: 0,5
- a whole number before another one in a list that neither rises nor falls throughout: 0,1,0,2
- a number that begins with 0 and goes on with digits: 0,001
- points and commas that part thousands: 1.000,5 and 1,000.5

A comma with a space beside it always parts two numbers: "0, 5".
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, TypeGuard

from wn.basics.errors import WnError

_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII)
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)", re.ASCII)
_SURE_COMMA = re.compile(r"\s+,\s*|,\s+")
_DIGITS = re.compile(r"\d+", re.ASCII)
_FRACTION = re.compile(r"\d+([eE][+-]?\d+)?", re.ASCII)  # what may follow a decimal mark
_THOUSANDS = re.compile(r"[1-9]\d{0,2}((\.\d{3})+,\d+|(,\d{3})+\.\d+)", re.ASCII)
_SPACES_PART_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\s\d{3})+([.,]\d*)?")
_LONGEST = 400  # characters of a number
_LONGEST_SHOWN = 80  # characters of a list in a message


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a real number of Python or NumPy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def checked_whole(what: str, value: Any, at_least: int) -> int:
    """An integer of Python or NumPy as one of Python; WnError unless it is one of at least `at_least`."""
    if not is_integer(value) or value < at_least:
        raise WnError(f"{what} is {value!r}: it must be an integer of at least {at_least}")
    return int(value)


def check_switch(what: str, value: Any) -> None:
    """Raise WnError unless a value is True or False."""
    if not isinstance(value, bool):
        raise WnError(f"{what} is {value!r}: it must be True or False")


def number(text: str) -> float:
    """The number of a text such as "0.5", "1e-3", "inf"; WnError, with the right form if there is one."""
    plain = text.strip()
    if len(plain) > _LONGEST or not _NUMBER.fullmatch(plain):
        raise WnError(_not_a(text, "number", _NUMBER))
    return float(plain)


def whole(text: str) -> int:
    """The whole number of a text such as "12", "-3"; WnError, with the right form if there is one."""
    plain = text.strip()
    if len(plain) > _LONGEST or not _WHOLE.fullmatch(plain):
        raise WnError(_not_a(text, "whole number", _WHOLE))
    return int(plain)


def numbers(text: str) -> list[float]:
    """The numbers of a list such as "0.1,1,10"; WnError where a comma could also be a decimal mark."""
    if ";" in text:
        points = text.replace(",", ".").replace(";", ",")
        raise WnError(f"{text!r}: numbers have a decimal point, and commas between them: write {points}")
    found = []
    for part in _SURE_COMMA.split(text.strip()):
        _check_spaces(part)
        items = part.split(",")
        if _in_doubt(part, items):
            raise WnError(_question(part, items))
        found += [number(item) for item in items]
    return found


def _check_spaces(part: str) -> None:
    """Raise WnError for numbers with nothing but spaces between them, as 0.1 1 10."""
    words = part.split()
    if len(words) < 2 or _SPACES_PART_THOUSANDS.fullmatch(part):
        return
    points = [word.replace(",", ".") for word in words]
    if all(map(_NUMBER.fullmatch, points)):
        raise WnError(f"{part!r}: numbers have commas between them: write {', '.join(points)}")


def in_doubt(values: Sequence[int]) -> bool:
    """Whether whole numbers of a list may have been decimals, as 0, 1, 0, 2 of 0,1,0,2."""
    items = list(map(str, values))
    return _in_doubt(",".join(items), items)


def _in_doubt(part: str, items: Sequence[str]) -> bool:
    if any(re.match(r"0\d", item) for item in items[1:]) or _THOUSANDS.fullmatch(part):
        return len(items) > 1
    if not any(_DIGITS.fullmatch(one) and _FRACTION.fullmatch(other) for one, other in pairwise(items)):
        return False
    return len(items) == 2 or not _in_order(items)


def _in_order(items: Sequence[str]) -> bool:
    """Whether the numbers rise, or fall, throughout; a list with something else in it is not in doubt."""
    try:
        values = [number(item) for item in items]
    except WnError:
        return True
    rises = [other > one for one, other in pairwise(values)]
    falls = [other < one for one, other in pairwise(values)]
    return all(rises) or all(falls)


def _question(part: str, items: Sequence[str]) -> str:
    """The readings of a list in doubt, each in the form that has no other."""
    readings = []
    if _THOUSANDS.fullmatch(part):
        mark = max(",.", key=part.rfind)
        whole_part, _, fraction = part.rpartition(mark)
        readings.append(f"{re.sub(r'[,.]', '', whole_part)}.{fraction}")
    if re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+", part):
        readings.append(part.replace(",", ""))
    if all(map(_FRACTION.fullmatch, items)):
        readings.append(",".join(".".join(items[index : index + 2]) for index in range(0, len(items), 2)))
    readings.append(",".join(map(_with_point, items)))
    sensible = [text for text in readings if len(set(text.split(","))) == text.count(",") + 1]
    short = len(part) <= _LONGEST_SHOWN
    advice = (
        f"write {' or '.join(sensible)}" if sensible and short else "give decimals a point, each number once"
    )
    shown = part if short else f"{part[:_LONGEST_SHOWN]}…"
    return f"the commas of {shown!r} have more than one reading: {advice}"


def _with_point(item: str) -> str:
    plain = re.sub(r"^0+(?=\d)", "", item.strip())
    return re.sub(r"^(\d+)(?=[eE]|$)", r"\1.0", plain)


def _not_a(text: str, what: str, form: re.Pattern[str]) -> str:
    if not text.strip():
        return f"a {what} is missing"
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    plain = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)
    plain = plain.replace("\u2212", "-")
    signs = r"[\s_'\u2019]" if _SPACES_PART_THOUSANDS.fullmatch(plain.strip()) else r"[_'\u2019]"
    plain = re.sub(signs, "", plain.strip())
    plain = re.sub(r"^([+-]?)0+(?=\d)", r"\1", plain)
    plain = plain.replace(",", ".") if plain.count(",") == 1 and "." not in plain else plain
    advice = f": write {plain}" if len(plain) <= _LONGEST and form.fullmatch(plain) else ""
    return f"{shown!r} is no {what}{advice}"
