"""Whole networks: sites, forward and backward under every kind of noise, members that keep to themselves."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from reference import finite_difference
from tests.engine.populations import check_error
from tests.engine.twin import (
    BE,
    CONVOLUTIONAL,
    DENSE,
    assert_within,
    by_name,
    expected_gradients,
    gradients,
    member,
    random_network,
    same_bits,
)
from wn.basics.errors import WnError
from wn.engine import models
from wn.engine import noise as noises
from wn.engine.layers import noise as noise_layer
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import additive, mixed, mixed_direct, multiplicative, none
from wn.engine.optim import arrays
from wn.testing import check_mean, check_variance

NETWORKS = {"dense": DENSE, "convolutional": CONVOLUTIONAL}
EACH = {"repetitions": 3, "execution": "each"}
KINDS = {
    "none": none(),
    "additive": additive([0.4, 1.0], mean=0.3, **EACH),
    "multiplicative": multiplicative([0.5, 0.2], mean=0.8, **EACH),
    "mixed mul->add": mixed([1.0, 0.4], 0.3, mean_mul=0.9, mean_add=0.2, **EACH),
    "mixed add->mul": mixed([1.0, 0.4], 0.3, mean_mul=0.9, mean_add=0.2, order="add_mul", **EACH),
    "mixed-direct": mixed_direct(0.3, [0.5, 0.1], mean_mul=1.2, mean_add=-0.3, **EACH),
    "mixed-direct, single": mixed_direct(0.3, [0.5, 0.1], normalize_to_input_size=True, repetitions=3),
}


def placed(network, noise, place):
    """Noise at one site in the middle, at the logits, at every site, or with a factor per site."""
    sites = len(network.site_names)
    return {
        "one site": {1: noise},
        "logits": {sites - 1: noise},
        "every site": noises.everywhere(sites, noise),
        "mapped": noises.mapped(noise, {0: 0.5, 2: 0.0, sites - 1: 2.0}),
    }[place]


def problem(network, population=2, batch=5, seed=0, dtype=np.float64, shared_x=True):
    """Return (params, states, x, labels)."""
    rng = np.random.default_rng([seed, 2])
    params, states = random_network(network, population, seed, dtype)
    x = rng.standard_normal((1 if shared_x else population, *network.input_shape, batch)).astype(dtype)
    return params, states, x, rng.integers(0, 3, batch)


def conditions_of(noise, seeds=(5, 6), training=True, batch=5, epoch=2):
    return Conditions(noise, seeds, 3 * np.arange(batch) + 1, epoch, training)


# ---- gradients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["one site", "logits", "every site", "mapped"])
def test_loss_and_every_gradient_equal_the_naive_network(kind, place):
    for network in NETWORKS.values():
        for training, seeds in ((True, (5, 6)), (False, (7, 7))):
            case = problem(network, shared_x=training)
            conditions = conditions_of(placed(network, KINDS[kind], place), seeds, training)
            found = gradients(network, *case, conditions)
            assert_within(found, expected_gradients(network, *case, conditions), 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_equal_central_differences(kind, name):
    """With the draws held fixed, as they are: a draw belongs to its address."""
    network = NETWORKS[name]
    params, states, x, labels = problem(network, seed=1)
    conditions = conditions_of(placed(network, KINDS[kind], "every site"))
    found = gradients(network, params, states, x, labels, conditions)
    rng = np.random.default_rng(3)

    def total_loss(changed_params, changed_x):
        return float(gradients(network, changed_params, states, changed_x, labels, conditions)["loss"].sum())

    for number, layer in enumerate(params):
        for field in layer._fields if layer else ():
            value = getattr(layer, field)

            def loss(v, number=number, field=field, layer=layer):
                changed = layer._replace(**{field: v})
                return total_loss((*params[:number], changed, *params[number + 1 :]), x)

            direction = rng.standard_normal(value.shape)
            difference = finite_difference.directional_derivative(loss, value, direction)
            gradient = found[f"{network.nodes[number].name}.{field}"]
            assert np.sum(gradient * direction) == pytest.approx(difference, rel=1e-6, abs=1e-8)
    direction = rng.standard_normal(x.shape)
    difference = finite_difference.directional_derivative(lambda v: total_loss(params, v), x, direction)
    assert np.sum(found["dx"] * direction) == pytest.approx(difference, rel=1e-6, abs=1e-8)


def planted_fresh_draws(be, dy, cache):
    z = np.random.default_rng(dy.size).standard_normal(dy.shape)
    return dy if cache.multiplier is None else dy * (1 + 0.3 * z)


def planted_forgotten_multiplier(be, dy, cache):
    return dy


@pytest.mark.parametrize("bug", [planted_fresh_draws, planted_forgotten_multiplier])
@pytest.mark.parametrize("kind", ["multiplicative", "mixed add->mul"])
def test_a_planted_bug_in_the_noise_is_noticed(monkeypatch, bug, kind):
    case, conditions = problem(DENSE), conditions_of(placed(DENSE, KINDS[kind], "one site"))
    expected = expected_gradients(DENSE, *case, conditions)
    monkeypatch.setattr(noise_layer, "backward", bug)
    with pytest.raises(AssertionError, match="off by"):
        assert_within(gradients(DENSE, *case, conditions), expected, 1e-9)


def test_a_planted_shift_of_sites_is_noticed():
    """The draws of a site are those of its number, not of its neighbour's."""
    case = problem(DENSE)
    found = gradients(DENSE, *case, conditions_of({1: KINDS["additive"]}))
    expected = expected_gradients(DENSE, *case, conditions_of({2: KINDS["additive"]}))
    with pytest.raises(AssertionError, match="off by"):
        assert_within(found, expected, 1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_of_the_input_only_where_it_is_asked_for(name):
    network = NETWORKS[name]
    params, states, x, _ = problem(network)
    logits, cache, _ = network.forward(BE, params, states, x, conditions_of({0: KINDS["mixed-direct"]}))
    dx, grads = network.backward(BE, logits, cache)
    assert dx is None
    dx, again = network.backward(BE, logits, cache, need_dx=True)
    assert dx is not None
    assert dx.shape == (2, *x.shape[1:])
    for first, second in zip(arrays(grads), arrays(again), strict=True):
        assert same_bits(first, second)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(kind, dtype):
    for network in NETWORKS.values():
        case = problem(network, dtype=dtype)
        found = gradients(network, *case, conditions_of(placed(network, KINDS[kind], "every site")))
        assert {array.dtype for array in found.values()} == {np.dtype(dtype)}


# ---- members --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "additive", "mixed add->mul"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_population_equals_separate_networks(kind, name, dtype):
    network, noise = NETWORKS[name], KINDS[kind]
    params, states, x, labels = problem(network, batch=6, dtype=dtype)
    together = gradients(
        network, params, states, x, labels, conditions_of(placed(network, noise, "every site"), batch=6)
    )
    for p, seed in enumerate((5, 6)):
        own = noise
        for field in ("sigma_mul", "sigma_add"):
            value = getattr(noise, field)
            if np.ndim(value):
                own = replace(own, **{field: float(value[p])})
        conditions = conditions_of(placed(network, own, "every site"), (seed,), batch=6)
        alone = gradients(network, member(params, p), member(states, p), x, labels, conditions)
        for quantity, value in together.items():
            assert same_bits(value[p : p + 1], alone[quantity]), quantity


@pytest.mark.parametrize("name", NETWORKS)
def test_a_changed_member_changes_no_other(name):
    network = NETWORKS[name]
    params, states, x, labels = problem(network, shared_x=False)
    conditions = conditions_of(placed(network, KINDS["mixed-direct"], "every site"))
    before = gradients(network, params, states, x, labels, conditions)
    other_x = x.copy()
    other_x[1] *= 1.5
    changed = tuple(
        type(layer)(*(np.stack([array[0], 2 * array[1] + 1]) for array in layer)) if layer else ()
        for layer in params
    )
    after = gradients(network, changed, states, other_x, labels, conditions)
    for quantity, value in before.items():
        assert same_bits(value[0], after[quantity][0]), quantity
        assert not same_bits(value[1], after[quantity][1]), quantity


# ---- clean activations and walks from a site ------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_clean_activations_end_in_the_clean_logits(name):
    network = NETWORKS[name]
    params, states, x, _ = problem(network)
    activations = network.clean_activations(BE, params, states, x)
    logits, _, _ = network.forward(BE, params, states, x, conditions_of({}, training=False))
    assert len(activations) == len(network.site_names)
    assert same_bits(activations[0], x)
    assert same_bits(activations[-1], logits)
    for activation, shape in zip(activations, network.site_shapes(), strict=True):
        assert activation.shape[1:-1] == shape


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_from_a_site_is_the_forward_pass(name, dtype):
    """Bit for bit, for one clean network under the noise of three members at a site and behind it."""
    network = NETWORKS[name]
    params, states, x, _ = problem(network, population=1, batch=300, dtype=dtype)
    activations = network.clean_activations(BE, params, states, x)
    noise = mixed_direct([0.1, 0.2, 0.3], [0.3, 0.2, 0.1])
    for site, activation in enumerate(activations):
        for sites in ({site}, set(range(site, len(activations)))):
            conditions = conditions_of(dict.fromkeys(sites, noise), (5,), training=False, batch=300)
            whole, _, _ = network.forward(BE, params, states, x, conditions)
            assert whole.shape == (3, 3, 300)
            assert same_bits(
                network.forward_from_site(BE, params, states, activation, conditions, site), whole
            )


def test_noise_that_is_switched_off_in_a_phase_does_nothing():
    params, states, x, _ = problem(DENSE)
    clean, _, _ = DENSE.forward(BE, params, states, x, conditions_of({}))
    for training in (True, False):
        for noise in (
            additive(1.0, in_training=not training, in_inference=training),
            additive(1.0, in_training=training, in_inference=not training),
        ):
            logits, _, _ = DENSE.forward(BE, params, states, x, conditions_of({1: noise}, training=training))
            assert same_bits(logits, clean) != noise.active(training)


def test_values_out_of_range_are_seen_without_a_warning():
    """An overflow is in the logits, for the one who reads them; warnings are errors here."""
    params, states, x, _ = problem(DENSE, dtype=np.float32)
    conditions = conditions_of(noises.everywhere(4, multiplicative(1e30)), training=False)
    logits, _, _ = DENSE.forward(BE, params, states, x, conditions)
    assert not np.isfinite(logits).all()


# ---- sites and shapes -----------------------------------------------------------------------------------


def test_sites_are_numbered_in_order():
    assert DENSE.site_names == ("input", "fc1", "relu1", "logits")
    assert DENSE.site_depths == (0, 2, 3, 4)
    assert DENSE.site_shapes() == [(1, 2, 3), (4,), (4,), (3,)]
    assert CONVOLUTIONAL.site_names == ("input", "conv1", "bn1", "relu1", "pool1", "logits")
    assert CONVOLUTIONAL.site_shapes() == [(2, 4, 6), (2, 5, 4), (2, 5, 4), (2, 5, 4), (2, 2, 2), (3,)]
    assert DENSE.classes == CONVOLUTIONAL.classes == 3


@pytest.mark.parametrize("site", [-1, 4, 99])
def test_a_site_that_does_not_exist_is_refused(site):
    known = ("dense has no site", str(site), "0 input, 1 fc1, 2 relu1, 3 logits")
    check_error(lambda: DENSE.check_sites([0, site]), *known)
    params, states, x, _ = problem(DENSE)
    conditions = conditions_of({}, training=False)
    check_error(lambda: DENSE.forward_from_site(BE, params, states, x, conditions, site), *known)


@pytest.mark.parametrize("site", [True, 1.0, "1", None])
def test_a_site_is_an_integer(site):
    check_error(lambda: DENSE.check_sites([site]), f"site {site!r}", "an integer in 0…3")
    DENSE.check_sites([np.int64(1)])


def test_a_layer_that_does_not_fit_is_named_with_both_shapes():
    def build(*layers):
        return Network("net", tuple(Node(f"layer{i}", layer) for i, layer in enumerate(layers)), (1, 4, 4))

    for layers, number in (((Relu(), Linear(3)), 1), ((Relu(), Relu(), Convolution(2, (5, 5))), 2)):
        check_error(lambda layers=layers: build(*layers), f"layer 'layer{number}'", "(1, 4, 4)", "net")
    with pytest.raises(WnError, match=r"layer 'layer1' .* shape \(16,\) .*input \(1, 4, 4\)"):
        build(Flatten(), Convolution(2, (2, 2)))


# ---- initial parameters ---------------------------------------------------------------------------------


def test_initial_parameters_are_uniform_within_one_over_the_root_of_fan_in():
    wide = Network(
        "wide",
        (
            Node("conv", Convolution(40, (3, 5))),
            Node("flatten", Flatten(), site=False),
            Node("fc", Linear(300)),
        ),
        (8, 5, 10),
    )
    seed = 12
    fan_in = {"conv": 8 * 3 * 5, "fc": 40 * 3 * 6}
    found = by_name(wide, wide.initial_parameters(BE, tuple(range(seed, seed + 30)), np.float32))
    for name, array in found.items():
        bound = fan_in[name.split(".")[0]] ** -0.5
        assert array.dtype == np.float32
        assert np.abs(array).max() <= np.float32(bound)
        assert np.abs(array).max() > 0.99 * bound
        check_mean(array, 0.0, bound**2 / 3, seed=seed, name=f"{name}: mean")
        check_variance(array, bound**2 / 3, seed=seed, kurtosis=1.8, name=f"{name}: variance")


def test_equal_seeds_start_equal_and_others_do_not():
    params = by_name(DENSE, DENSE.initial_parameters(BE, (3, 4, 3), np.float32))
    alone = by_name(DENSE, DENSE.initial_parameters(BE, (4,), np.float64))
    for name, array in params.items():
        assert same_bits(array[0], array[2])
        assert not np.any(array[0] == array[1])
        assert alone[name].dtype == np.float64
        np.testing.assert_array_equal(array[1], alone[name][0])


def test_no_two_parameters_share_their_draws():
    network = Network("same", tuple(Node(f"fc{i}", Linear(6)) for i in range(3)), (6,))
    found = by_name(network, network.initial_parameters(BE, (3,), np.float32))
    for first, second in combinations(found.values(), 2):
        assert not np.any(first.ravel()[:6] == second.ravel()[:6])


def test_a_node_that_names_the_one_before_it_is_one_of_a_chain():
    def chain(*inputs):
        nodes = (Node(f"fc{i}", Linear(6), inputs=(name,) if name else ()) for i, name in enumerate(inputs))
        return Network("chain", tuple(nodes), (6,))

    named, unnamed = chain("input", "fc0", "fc1"), chain("", "", "")
    params = named.initial_parameters(BE, (3,), np.float32)
    x = np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)
    conditions = Conditions({}, (3,), np.arange(4, dtype=np.uint32), 0, training=True)
    found = [network.forward(BE, params, ((),) * 3, x, conditions)[0] for network in (named, unnamed)]
    assert same_bits(*found)


def test_a_network_knows_its_shapes_kind_and_weights():
    lenet, dense = (models.build(name, (1, 28, 28), 10, "hidden") for name in ("lenet5", "mlp-8"))
    assert (lenet.convolutional, dense.convolutional) == (True, False)
    assert [models.build("mlp-8", (1, 2, 2), 3, kind).batch_norm for kind in models.BATCH_NORM] == [
        *models.BATCH_NORM
    ]
    assert [tuple(place) for place in dense.placed[:2]] == [
        ("flatten", Flatten(), (1, 28, 28), (784,)),
        ("fc1", Linear(8), (784,), (8,)),
    ]
    params, states = lenet.template(BE, 3)
    assert list(lenet.weights(params)) == ["conv1", "conv2", "fc1", "fc2", "logits"]
    assert lenet.weights(params)["conv2"].shape == (3, 16, 6, 5, 5)
    assert not any(lenet.weights(params)["fc1"].strides)
    assert states[1].variance.shape == (3, 6)
