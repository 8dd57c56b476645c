"""A noise operator in words: its kind, its options and their rules. The one place that states them.

Flags, keyword arguments and the keys of study files are made of `NoiseOptions`; each way in decodes into a
`NoiseSpec`, of which `wn.engine.noise.of_spec` makes the operator. What the options mean: docs/noise.md.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from wn.basics.errors import WnError
from wn.basics.options import Option, annotation

KINDS = ("none", "additive", "multiplicative", "mixed", "mixed-direct")
MIXED = ("mixed", "mixed-direct")
ADDING = ("additive", *MIXED)  # the kinds that have a D,
MULTIPLYING = ("multiplicative", *MIXED)  # and those that have an M
ORDERS = ("mul_add", "add_mul")
EXECUTIONS = ("single", "each")
DISTRIBUTIONS = ("normal", "uniform", "laplace")  # those of wn.random, which needs NumPy: --help does not
DEFAULT_RATIO = 0.5


class OptionRule(NamedTuple):
    """The rule of an option: the kinds of noise that have it, and its allowed values (() for numbers)."""

    kinds: tuple[str, ...] = KINDS
    choices: tuple[str, ...] = ()
    axis: bool = False  # whether a study file may list several values


class NoiseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of an operator besides kind, σ and place; None takes the default of the kind."""

    mean: Annotated[
        float | None,
        Option("Mean of additive (default 0) or multiplicative (default 1) noise.", "Noise"),
        OptionRule(("additive", "multiplicative")),
    ] = None
    mean_mul: Annotated[
        float | None,
        Option("Mean of mixed noise's multiplicative part (default 1).", "Noise"),
        OptionRule(MIXED),
    ] = None
    mean_add: Annotated[
        float | None, Option("Mean of mixed noise's additive part (default 0).", "Noise"), OptionRule(MIXED)
    ] = None
    ratio: Annotated[
        float | None,
        Option("Mixed noise of amplitude σ: σ_add = σ·ratio, σ_mul = σ·(1-ratio) (default 0.5).", "Noise"),
        OptionRule(("mixed",), axis=True),
    ] = None
    order: Annotated[
        str | None,
        Option("Order of mixed noise: mul_add (default) or add_mul.", "Noise"),
        OptionRule(MIXED, ORDERS, axis=True),
    ] = None
    normalize_to_input_size: Annotated[
        bool, Option("Divide σ by the number of elements per sample at the site.", "Noise"), OptionRule()
    ] = False
    repetitions: Annotated[
        int,
        Option("Execute each noisy site R times and average.", "Noise", flags=("-R", "--repetitions")),
        OptionRule(axis=True),
    ] = 1
    execution: Annotated[
        str,
        Option(
            "How R executions are computed: single (one draw with σ/√R; order add_mul: R draws) or each "
            "(R draws).",
            "Noise",
        ),
        OptionRule(choices=EXECUTIONS),
    ] = "single"
    distribution: Annotated[
        str | UnsetType,
        Option(
            "Distribution of the draws, whose mean and σ stay: normal, uniform or laplace.",
            "Noise",
            default="normal",
        ),
        OptionRule(choices=DISTRIBUTIONS, axis=True),
    ] = UNSET


FIELDS = {field.name: field for field in msgspec.structs.fields(NoiseOptions)}
RULES: dict[str, OptionRule] = {name: annotation(field.type, OptionRule) for name, field in FIELDS.items()}
OPTIONS = tuple(RULES)


class NoiseSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A noise operator without its σ; all values are resolved, so that equal operators are equal.

    `ratio` goes with mixed noise and `sigma_mul` with mixed-direct noise (σ is σ_add there; None: σ_mul is σ
    too). `repetitions` is one number for all noisy sites, or one for each in the order of the unit's factors.
    Keys of results are made of it: what is added here has UNSET as default, which leaves keys as they are.
    """

    kind: str
    ratio: float | None = None
    sigma_mul: float | None = None
    mean_mul: float = 1.0
    mean_add: float = 0.0
    order: str = "mul_add"
    normalize_to_input_size: bool = False
    repetitions: int | tuple[int, ...] = 1
    execution: str = "single"
    distribution: str | UnsetType = UNSET  # normal


def specified(kind: str, options: Mapping[str, Any], sigma_mul: float | None = None) -> NoiseSpec:
    """Return the operator of a kind and its options.

    `options` are those of `NoiseOptions`, None or UNSET where not given; `repetitions` may also be a number
    for each site. An execution that makes no difference is "single". Raises WnError for an unknown kind or
    option, for one that does not go with the kind, and for words that are not allowed; ranges are checked by
    `Noise`.
    """
    check_choice("kind", kind)
    given = {name: value for name, value in options.items() if value is not None and value is not UNSET}
    for name, value in given.items():
        check_option(kind, name)
        check_choice(name, value)
    spec = NoiseSpec(kind=kind, sigma_mul=sigma_mul, **_resolved(kind, given))
    differs = may_be_single(spec) and spec.repetitions != 1
    return spec if differs else msgspec.structs.replace(spec, execution="single")


def _resolved(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """The given options under the names of a specification, in the one form that equal ones share."""
    found = dict(given)
    mean = found.pop("mean", None)
    if mean is not None:
        found["mean_add" if kind == "additive" else "mean_mul"] = mean
    if kind == "mixed":
        found.setdefault("ratio", DEFAULT_RATIO)
    for name in {"ratio", "mean_mul", "mean_add"} & set(found):
        found[name] = float(found[name]) + 0.0  # -0.0 becomes 0.0
    repetitions = found.get("repetitions")
    if isinstance(repetitions, tuple) and len(set(repetitions)) == 1:
        found["repetitions"] = repetitions[0]
    if found.get("distribution") == "normal":
        del found["distribution"]
    return found


def may_be_single(noise: Any) -> bool:
    """Whether one draw with σ/√R has the distribution of the average of R, for a Noise or a NoiseSpec."""
    return noise.order == "mul_add" and noise.distribution in ("normal", UNSET)


def options_of(kind: str) -> tuple[str, ...]:
    """The options that go with a kind."""
    return tuple(name for name, rule in RULES.items() if kind in rule.kinds)


def check_option(kind: str, name: str, besides: tuple[str, ...] = ()) -> None:
    """Raise WnError for an option that is unknown, or goes with other kinds; `besides` are known as well."""
    if name in options_of(kind) or name in besides:
        return
    problem = f"{kind} noise has no option {name!r}:"
    if name in RULES:
        raise WnError(f"{problem} it goes with {', '.join(RULES[name].kinds)}")
    raise WnError(f"{problem} allowed are {', '.join((*options_of(kind), *besides))}")


_CALLED = {"kind": "noise kind", "order": "order of mixed noise"}


def check_choice(name: str, value: Any) -> None:
    """Raise WnError for a word that is not allowed as the kind, or as the value of an option."""
    allowed = KINDS if name == "kind" else RULES[name].choices
    if allowed and value not in allowed:
        raise WnError(f"unknown {_CALLED.get(name, name)} {value!r}: allowed are {', '.join(allowed)}")
