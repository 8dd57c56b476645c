"""Whole naive networks: sites, composition, and gradients against central differences."""

import numpy as np
import pytest

from reference import finite_difference as fd
from reference import naive, naive_statistics
from reference.naive_network import layer_backward, layer_forward, network_gradients, with_noise

RNG_SHAPE = (2, 1, 8, 7, 3)  # P, C, H, W, B


def convolutional(seed=0):
    """A small LeNet: every kind of layer once, two members with their own parameters."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal
    return [
        ("convolution", z((2, 2, 1, 3, 2)), z((2, 2)), (1, 1), (1, 0)),
        ("batch_norm", z((2, 2)), z((2, 2))),
        ("relu",),
        ("max_pool", (2, 2)),
        ("average_pool", (2, 1)),
        ("flatten",),
        ("linear", z((2, 4, 12)) / 3, z((2, 4))),
        ("batch_norm_inference", z((2, 4)), z((2, 4)), z((2, 4)), rng.uniform(0.5, 2, (2, 4))),
        ("linear", z((2, 3, 4)), z((2, 3))),
    ]


def draws_at(shapes, seed=1):
    """Noise with gain and offset, R = 2, at every site whose output shape is given."""
    rng = np.random.default_rng(seed)
    return {
        site: (1 + 0.3 * rng.standard_normal((2, *shape)), 0.3 * rng.standard_normal((2, *shape)), order)
        for (site, shape), order in zip(shapes.items(), ["mul_add", "add_mul"] * len(shapes), strict=False)
    }


LABELS = np.array([2, 0, 1])
SITES = {0: RNG_SHAPE, 2: (2, 2, 8, 6, 3), 4: (2, 2, 4, 3, 3), 8: (2, 3, 3)}


@pytest.mark.parametrize("class_weights", [None, [1.0, 0.5, 3.0]])
@pytest.mark.parametrize("noisy", [False, True])
def test_network_gradient(noisy, class_weights):
    layers = convolutional()
    x = np.random.default_rng(2).standard_normal(RNG_SHAPE)
    draws = draws_at(SITES) if noisy else {}
    found = network_gradients(layers, x, LABELS, class_weights, draws)
    rng = np.random.default_rng(3)

    def loss(layers, x):
        return float(np.sum(network_gradients(layers, x, LABELS, class_weights, draws).loss))

    direction = rng.standard_normal(x.shape)
    derivative = fd.directional_derivative(lambda v: loss(layers, v), x, direction)
    assert derivative == pytest.approx(np.sum(found.dx * direction), rel=1e-7, abs=1e-9)
    for number, layer in enumerate(layers):
        for place, gradient in enumerate(found.gradients[number], start=1):
            direction = rng.standard_normal(gradient.shape)

            def with_value(value, number=number, place=place):
                changed = list(layers)
                changed[number] = (*layers[number][:place], value, *layers[number][place + 1 :])
                return loss(changed, x)

            derivative = fd.directional_derivative(with_value, layer[place], direction)
            expected = np.sum(gradient * direction)
            assert derivative == pytest.approx(expected, rel=1e-7, abs=1e-8), (layer[0], place)


def test_members_do_not_meet():
    """Each member alone gives what the population gives, and a shared input gives what copies of it give."""
    layers = convolutional()
    x = np.random.default_rng(4).standard_normal((1, *RNG_SHAPE[1:]))
    together = network_gradients(layers, x, LABELS)
    for p in range(2):
        own = [tuple(a[p : p + 1] if isinstance(a, np.ndarray) else a for a in layer) for layer in layers]
        alone = network_gradients(own, x, LABELS)
        assert np.array_equal(alone.loss, together.loss[p : p + 1])
        assert np.array_equal(alone.dx, together.dx[p : p + 1])
        for one, all_members in zip(alone.gradients, together.gradients, strict=True):
            assert all(np.array_equal(a, b[p : p + 1]) for a, b in zip(one, all_members, strict=True))


def test_loss_and_logits_are_those_of_the_layers_in_order():
    z = np.random.default_rng(5).standard_normal
    x, w1, b1, w2, b2 = z((1, 3, 3)), z((2, 4, 3)), z((2, 4)), z((2, 3, 4)), z((2, 3))
    found = network_gradients([("linear", w1, b1), ("relu",), ("linear", w2, b2)], x, LABELS)
    hidden = np.maximum(w1 @ x + b1[:, :, None], 0)
    logits = w2 @ hidden + b2[:, :, None]
    np.testing.assert_allclose(found.logits, logits, rtol=1e-12)
    np.testing.assert_allclose(found.loss, naive_statistics.cross_entropy_forward(logits, LABELS), rtol=1e-12)
    assert [len(gradients) for gradients in found.gradients] == [2, 0, 2]
    assert found.dx.shape == (2, 3, 3)


def test_noise_of_a_shared_input_reaches_every_member():
    """Draws that the members share, and members that part only later."""
    z = np.random.default_rng(6).standard_normal
    x, w, b = z((1, 3, 3)), z((2, 3, 3)), z((2, 3))
    gain = 1 + z((2, 1, 3, 3))
    found = network_gradients([("linear", w, b)], x, LABELS, draws={0: (gain, None, "mul_add")})
    clean = network_gradients([("linear", w, b)], x * gain.mean(axis=0), LABELS)
    np.testing.assert_allclose(found.loss, clean.loss, rtol=1e-12)
    np.testing.assert_allclose(found.dx, clean.dx * gain.mean(axis=0), rtol=1e-12)


def test_sites_are_counted_without_flatten():
    kinds = [layer[0] for layer in with_noise(convolutional(), draws_at(SITES))]
    assert [number for number, kind in enumerate(kinds) if kind == "noise"] == [0, 3, 6, 12]
    assert kinds[-2:] == ["linear", "noise"]  # site 8 is the logits; flatten has none
    with pytest.raises(ValueError, match="sites 0 to 8"):
        with_noise(convolutional(), {9: (None, None, "mul_add")})


def test_unknown_layers():
    with pytest.raises(ValueError, match="'dropout'"):
        layer_forward(("dropout",), np.ones((1, 1, 1)))
    with pytest.raises(ValueError, match="'dropout'"):
        layer_backward(("dropout",), np.ones((1, 1, 1)), np.ones((1, 1, 1)))


def test_layers_are_the_functions_of_their_names():
    x = np.random.default_rng(7).standard_normal((1, 2, 4, 4, 2))
    assert np.array_equal(layer_forward(("max_pool", (2, 2)), x), naive.max_pool_forward(x, (2, 2)))
    assert np.array_equal(layer_forward(("average_pool", (2, 2)), x), naive.average_pool_forward(x, (2, 2)))
    gain = np.full((1, *x.shape), 2.0)
    assert np.array_equal(layer_forward(("noise", gain, None, "mul_add"), x), 2 * x)
