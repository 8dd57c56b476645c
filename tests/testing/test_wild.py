"""The trial of the checkers on other libraries, on a library made here: what is wrong is found and said."""

import numpy as np
import pytest

from tests.wild.__main__ import main
from tests.wild.cases import Case, Library
from tests.wild.known import KNOWN
from tests.wild.libraries import LIBRARIES
from tests.wild.trial import judge

X = np.array([0.7, -1.3, 2.1])


def _square(name: str = "square", factor: float = 2.0, **known: str) -> Case:
    return Case(name, lambda x: x**2, lambda dy, x: factor * x * dy, (X,), **known)


def _raises(x):
    raise ValueError("no such function")


def _narrow(x):
    return (np.float32(x) ** 2).astype(np.float64)


def _toy(*cases: Case) -> Library:
    return Library("numpy", "numpy", lambda: cases)


def test_right_gradients_pass_and_the_counts_say_so(capsys):
    assert main([], [_toy(_square(), _square("again"))]) == 0
    assert (
        "2 checks: passed 2, wrong 0, kink 0, undecided 0, raised 0; surprising 0" in capsys.readouterr().out
    )


def test_a_planted_bug_is_found_and_ends_with_1(capsys):
    assert main([], [_toy(_square(), _square("planted", factor=2.001))]) == 1
    out = capsys.readouterr().out
    assert "! planted: wrong, expected passed: the gradient is wrong" in out
    assert "passed 1, wrong 1" in out


def test_a_bug_that_is_known_is_told_with_its_reason_and_must_stay(capsys):
    known = _square("planted", factor=3.0, expected="wrong", why="three for two")
    assert main([], [_toy(known)]) == 0
    assert "planted: wrong: three for two" in capsys.readouterr().out
    mended = _square("planted", factor=2.0, expected="wrong", why="three for two")
    assert main([], [_toy(mended)]) == 1
    assert "! planted: passed, expected wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (Case("kink", np.abs, lambda dy, x: dy * np.sign(x), (np.array([0.0, 1.0]),)), "kink"),
        (Case("no function", _raises, lambda dy, x: dy, (X,)), "raised"),
        (Case("float32", _narrow, lambda dy, x: 2 * x * dy, (X,)), "undecided"),
    ],
)
def test_each_verdict_is_told_from_the_others(case, verdict):
    assert judge(case).verdict == verdict


def test_a_library_that_is_not_installed_is_left_out_and_said_so(capsys):
    assert main([], [Library("no-such-library", "no_such_library", tuple)]) == 0
    assert "no-such-library is not installed: left out" in capsys.readouterr().out


def test_a_library_that_is_not_in_the_trial_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nonesuch"], [_toy()])
    assert "nonesuch is none of numpy" in capsys.readouterr().err


def test_verdicts_other_than_passed_need_a_reason():
    with pytest.raises(ValueError, match="needs its reason"):
        _square(expected="wrong")
    for library in LIBRARIES:
        assert all(why for _, why in KNOWN[library.package].values())


def test_outputs_that_stay_zero_do_not_round_off_the_others():
    """The kind: the upstream that evens out outputs leaves those alone that no input changes."""

    def f(x):
        return np.concatenate([x**2, np.zeros(3)])

    def vjp(dy, x):
        return 2 * x * ((dy[:3] + dy[3:]) - dy[3:])

    assert judge(Case("as the triangle of R", f, vjp, (X,))).verdict == "passed"


def test_last_bits_may_differ_from_call_to_call_but_draws_may_not():
    """The kind: LAPACK's last bit may depend on where an array lies."""
    rng = np.random.default_rng(1)

    def jittering(x, part):
        return x**2 * (1 + part * rng.standard_normal(3))

    def vjp(dy, x):
        return 2 * x * dy

    bits = Case("bits", lambda x: jittering(x, 1e-16), vjp, (X,))
    assert judge(bits).verdict == "passed"
    draws = judge(Case("draws", lambda x: jittering(x, 1e-9), vjp, (X,)))
    assert draws.verdict == "wrong"
    assert "f twice on the same input" in draws.message
