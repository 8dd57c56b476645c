"""check_layer on random layers with planted errors: what is caught, what passes, what cannot be decided.

    python -m tests.testing.generated_layers --count 10000 --seed 1

A layer is a chain of one to five correct primitives; into the gradient of its input or of a parameter an
error is planted: in one element, by a factor, a term left out, a sign or a permutation, of relative size 0,
1e-6, 1e-3 or 1. The size of an error is measured beside the terms of the gradient element that it is in,
which gives whether it is above the documented resolution. Exit code 1 if an error above it passes, if a layer
without one is refused, or if more than 2 % cannot be decided.
"""

import argparse
import sys
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from tests.testing.primitives import ANYWHERE, OF_FEATURES, OF_IMAGES, Primitive
from wn.testing import LayerCase, UnresolvedError, check_gradient, check_layer
from wn.testing.tolerances import NEGLIGIBLE, RESOLUTION

SIZES = (0.0, 1e-6, 1e-3, 1.0)
KINDS = ("element", "factor", "term", "sign", "permutation")
LARGEST = 1e8  # of y: beyond it float32, which check_layer also tries, leaves nothing
EPSILON = float(np.finfo(np.float64).eps)
COORDINATES = 24  # elements of an array that are probed one by one


class Chain:
    """A layer of primitives, with an error in the gradient of one of its arrays."""

    def __init__(self, steps: list[tuple[str, Primitive]], plant: "Plant | None" = None) -> None:
        self.steps, self.plant = steps, plant

    def forward(self, be, params, x):
        caches, own = [], dict(params)
        for number, (_, step) in enumerate(self.steps):
            given = [own[name] for name in own if name.startswith(f"p{number}_")]
            x, cache = step.forward(given, x)
            caches.append((given, cache))
        return x, (params, caches)

    def backward(self, be, dy, cache):
        params, caches = cache
        correct = self.correct(dy, params, caches)
        if self.plant is not None:
            name = self.plant.name
            correct[name] = self.plant.spoil(
                correct[name], lambda other: self.correct(other, params, caches)[name], dy
            )
        dx = correct.pop("x")
        return dx, {name: correct[name] for name in params}

    def correct(self, dy, params, caches):
        """Return the right gradients by name."""
        found = {}
        for number in reversed(range(len(self.steps))):
            given, cache = caches[number]
            dy, gradients = self.steps[number][1].backward(given, dy, cache)
            found |= {f"p{number}_{i}": gradient for i, gradient in enumerate(gradients)}
        return {"x": dy, **found}

    def described(self):
        return " → ".join(name for name, _ in self.steps)


class Plant(NamedTuple):
    """An error of a relative size in the gradient of one array."""

    name: str
    kind: str
    size: float
    seed: int

    def spoil(self, gradient, correct, dy):
        """Return the gradient with the error; correct(dy): the right one for another dy."""
        rng = np.random.default_rng(self.seed)
        if self.kind == "factor":
            return gradient * (1 + self.size)
        if self.kind == "permutation":  # of the elements of each member
            flat = gradient.reshape(len(gradient), -1)
            other = flat[:, rng.permutation(flat.shape[1])].reshape(gradient.shape)
            return gradient + self.size * (other - gradient)
        if self.kind == "term":  # what one element of dy adds, in each member
            flat = dy.reshape(len(dy), -1).copy()
            flat[:, rng.integers(flat.shape[1])] *= 1 - self.size
            return correct(flat.reshape(dy.shape))
        error = self.size * (-2 if self.kind == "sign" else 1)
        changed = gradient.copy()
        member = changed[rng.integers(len(changed))].reshape(-1)
        member[rng.integers(member.size)] *= 1 + error
        return changed


class Outcome(NamedTuple):
    """What check_layer said of a layer, and whether its error was above the resolution."""

    size: float
    above: bool
    verdict: str  # passed, caught, undecided, or the name of another error
    message: str
    chain: str


def generate(seed: int) -> tuple[Chain, dict[str, np.ndarray], np.ndarray]:
    """Return a random chain with its parameters and input."""
    rng = np.random.default_rng([seed, 7])
    while True:
        members = int(rng.integers(1, 4))
        images = rng.random() < 0.35
        inner = (
            (int(rng.integers(1, 3)), int(rng.integers(2, 4)), int(rng.integers(1, 4)))
            if images
            else (int(rng.integers(1, 6)),)
        )
        x = rng.standard_normal((members, *inner, int(rng.integers(2, 5)))) * rng.choice(
            [0.1, 1.0, 1.0, 10.0]
        )
        steps, params, y = [], {}, x
        for number in range(int(rng.integers(1, 6))):
            names = ANYWHERE | (OF_IMAGES if y.ndim == 5 else OF_FEATURES)
            weights = np.array([6.0 if name in OF_FEATURES or name in OF_IMAGES else 1.0 for name in names])
            name = str(rng.choice(list(names), p=weights / weights.sum()))
            if "pooling" in name and y.shape[2] < 2:
                name = "flatten"
            if name in ("normalise", "softmax", "layer norm") and y.shape[1] < 2:
                name = "tanh"  # of one feature they make a constant
            step = names[name]
            drawn = step.draw(rng, y.shape)
            params |= {f"p{number}_{i}": array for i, array in enumerate(drawn)}
            steps.append((name, step))
            with np.errstate(all="ignore"):
                y, _ = step.forward(drawn, y)
        chain = Chain(steps)
        if np.all(np.isfinite(y)) and np.max(np.abs(y)) < LARGEST and _has_gradients(chain, params, x):
            return chain, params, x


def _has_gradients(chain: Chain, params: dict[str, np.ndarray], x: np.ndarray) -> bool:
    """Whether the right backward gives numbers: where exp is infinite before a tanh, it does not."""
    with np.errstate(all="ignore"):
        y, (_, caches) = chain.forward(None, params, x)
        found = chain.correct(np.ones_like(y), params, caches)
    return all(bool(np.all(np.isfinite(gradient))) for gradient in found.values())


def try_one(seed: int) -> Outcome:
    """Generate a layer, plant an error, and see what the checks say."""
    chain, params, x = generate(seed)
    rng = np.random.default_rng([seed, 8])
    size = SIZES[seed % len(SIZES)]
    plant = Plant(str(rng.choice(["x", *params])), str(rng.choice(KINDS)), size, seed)
    planted = Chain(chain.steps, plant if size else None)
    case = LayerCase(planted, None, params, x, seed=seed)
    above = bool(size) and _above(case, chain)
    verdict, message = "passed", ""
    try:
        if case.population > 1:
            check_layer(planted, None, params, x, seed=seed)
        else:
            check_gradient(case)
    except UnresolvedError as error:
        verdict, message = "undecided", str(error)
    except AssertionError as error:
        verdict, message = "caught", str(error)
    except Exception as error:
        verdict, message = type(error).__name__, str(error)
    return Outcome(size, above, verdict, message.splitlines()[0] if message else "", chain.described())


def _above(case: LayerCase, chain: Chain) -> bool:
    """Whether the error is above the documented resolution, in an element that is probed."""
    y, (params, caches) = chain.forward(None, case.params, case.x)
    jacobian, name = _jacobian(chain, params, caches, y), case.layer.plant.name
    for stream in (0, 3):
        dy = case.upstream(stream)
        right = chain.correct(dy, params, caches)
        wrong = case.layer.plant.spoil(
            right[name], lambda other: chain.correct(other, params, caches)[name], dy
        )
        terms = {n: np.tensordot(np.abs(dy).reshape(-1), np.abs(j), 1) for n, j in jacobian.items()}
        lengths = {
            n: np.maximum(np.abs(v), 2.0**-7 * np.median(np.abs(v))) for n, v in case.variables().items()
        }
        effect = max(float(np.max(terms[n] * lengths[n])) for n in terms)
        scale = np.minimum(effect / lengths[name], np.sum(np.abs(dy)))
        own = np.maximum(terms[name], _summed(case, chain, dy)[name])
        error = np.abs(wrong - right[name])
        rounding = 8 * EPSILON * np.sum(np.abs(dy * y)) / lengths[name]
        limit = 1.1 * (RESOLUTION * own + NEGLIGIBLE * scale) + rounding
        if case.variables()[name].size > COORDINATES:  # seen in random directions through all elements
            limit = np.full(error.shape, 20 * np.sum(limit * lengths[name])) / lengths[name]
        if np.any(error > limit):
            return True
    return False


def _summed(case: LayerCase, chain: Chain, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Return the size of the terms that the right backward adds up, from changes by a few roundings."""
    rng, change = np.random.default_rng(case.seed), 2.0**-46
    sizes: dict[str, Any] = {}
    _, (params, caches) = chain.forward(None, case.params, case.x)
    right = chain.correct(dy, params, caches)
    for _ in range(4):
        moved = {n: v * (1 + change * rng.choice([-1.0, 1.0], v.shape)) for n, v in case.variables().items()}
        _, (params, caches) = chain.forward(None, {n: moved[n] for n in case.params}, moved["x"])
        found = chain.correct(dy * (1 + change * rng.choice([-1.0, 1.0], dy.shape)), params, caches)
        for name, gradient in found.items():
            sizes[name] = np.maximum(sizes.get(name, 0), np.abs(gradient - right[name]) / change)
    return sizes


def _jacobian(chain: Chain, params: Any, caches: Any, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return ∂y_j/∂v for every array v, (elements of y, shape of v)."""
    rows = []
    for j in range(y.size):
        unit = np.zeros(y.size)
        unit[j] = 1.0
        rows.append(chain.correct(unit.reshape(y.shape), params, caches))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def violations(outcomes: list[Outcome]) -> list[Outcome]:
    """Outcomes that must not be: errors above the resolution that pass, right layers refused, others."""
    return [
        o
        for o in outcomes
        if (o.above and o.verdict == "passed")
        or (not o.size and o.verdict == "caught")
        or o.verdict not in ("passed", "caught", "undecided")
    ]


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as a Markdown table."""
    lines = ["| planted error | layers | caught | passed | cannot decide |", "|---|---|---|---|---|"]
    for size in SIZES:
        for above in (True, False):
            chosen = [o for o in outcomes if o.size == size and o.above == above]
            if not chosen:
                continue
            counts = Counter(o.verdict for o in chosen)
            label = f"{size:g}" + ("" if not size else ", above the resolution" if above else ", below it")
            row = (label, len(chosen), counts["caught"], counts["passed"], counts["undecided"])
            lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="number of layers")
    parser.add_argument("--seed", type=int, default=0, help="of the first layer; the others follow")
    parser.add_argument("--show", action="store_true", help="print what could not be decided, too")
    arguments = parser.parse_args()
    outcomes = []
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        outcomes.append(try_one(seed))
        if violations(outcomes[-1:]) or (arguments.show and outcomes[-1].verdict == "undecided"):
            print(seed, *outcomes[-1], sep=" | ", flush=True)
    undecided = sum(o.verdict == "undecided" for o in outcomes) / len(outcomes)
    print(table(outcomes))
    print(f"cannot decide: {100 * undecided:.2f} %; violations: {len(violations(outcomes))}")
    return int(bool(violations(outcomes)) or undecided > 0.02)


if __name__ == "__main__":
    sys.exit(main())
