"""Networks whose branches join: gradients, noise at every site, starts in the middle, every backend."""

import numpy as np
import pytest

import wn
from reference import finite_difference
from tests.engine.backends.numba.recording import Anew, Watched
from tests.engine.twin import BE, by_name, gradients, random_network, same_bits, tiny_data
from wn import layers
from wn.basics.errors import WnError
from wn.engine import backends, training
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import additive, everywhere, mixed, multiplicative
from wn.engine.optim import arrays

BRANCHED = wn.network(
    (2, 4, 6),
    [
        layers.Convolution(3, (3, 3), padding=(1, 1)),
        layers.BatchNorm(),
        layers.Residual(
            [layers.Convolution(3, (3, 3), padding=(1, 1)), layers.BatchNorm(), layers.Relu()],
        ),
        layers.Residual(
            [layers.Convolution(4, (1, 1)), layers.Relu(), layers.Convolution(2, (2, 2), stride=(2, 2))],
            shortcut=[layers.Convolution(2, (2, 2), stride=(2, 2)), layers.BatchNorm()],
        ),
        layers.Relu(),
        layers.Concatenate([], [layers.Convolution(2, (1, 1)), layers.Relu()], [layers.Relu()]),
        layers.Flatten(),
        layers.Linear(3),
    ],
    name="branched",
)
DENSE = wn.network(
    (1, 2, 3),
    [
        layers.Flatten(),
        layers.Residual([layers.Linear(5), layers.Relu(), layers.Linear(6)]),
        layers.Concatenate([layers.Linear(3)], [layers.Linear(4), layers.Relu()]),
        layers.Linear(3),
    ],
    name="dense-branched",
)
NETWORKS = {network.name: network for network in (BRANCHED, DENSE)}
KINDS = {
    "additive": additive([0.3, 0.7]),
    "multiplicative": multiplicative([0.4, 0.2]),
    "mixed": mixed(0.4, 0.5),
}


def problem(network, population=2, batch=5, dtype=np.float64):
    rng = np.random.default_rng(4)
    params, states = random_network(network, population, 3, dtype)
    x = rng.standard_normal((1, *network.input_shape, batch)).astype(dtype)
    return params, states, x, rng.integers(0, 3, batch)


def conditions_of(noise, training=True, batch=5):
    return Conditions(noise, (5, 6), 3 * np.arange(batch) + 1, 2, training)


def test_names_and_sites():
    assert BRANCHED.site_names == (
        "input", "conv1", "bn1", "block1.conv1", "block1.bn1", "block1.relu1", "block1.add",
        "block2.conv1", "block2.relu1", "block2.conv2", "block2.shortcut.conv1", "block2.shortcut.bn1",
        "block2.add", "relu1", "block3.branch2.conv1", "block3.branch2.relu1", "block3.branch3.relu1",
        "block3.concat", "logits",
    )  # fmt: skip
    assert BRANCHED.site_shapes()[-2] == (6, 2, 3)
    assert not BRANCHED.edges.chain


def test_forward_is_that_of_the_layers_by_hand():
    """A residual block and a concatenation written out for the dense network, in NumPy alone."""
    network = DENSE
    params, states, x, _ = problem(network)
    p = {node.name: tree for node, tree in zip(network.nodes, params, strict=True)}
    h = x.reshape(1, 6, 5)

    def linear(of, value):
        return p[of].w @ value + p[of].b[:, :, None]

    h = linear("block1.fc2", np.maximum(linear("block1.fc1", h), 0)) + h
    left, right = linear("block2.branch1.fc1", h), np.maximum(linear("block2.branch2.fc1", h), 0)
    expected = linear("logits", np.concatenate((left, right), axis=1))
    found = network.forward(BE, params, states, x, conditions_of({}))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("in_training", [True, False])
def test_gradients_equal_central_differences(name, kind, in_training):
    """With noise at every site, the draws held fixed: a draw belongs to its address."""
    network = NETWORKS[name]
    params, states, x, labels = problem(network)
    conditions = conditions_of(everywhere(len(network.site_names), KINDS[kind]), in_training)
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
            assert np.sum(gradient * direction) == pytest.approx(difference, rel=1e-5, abs=1e-7)
    direction = rng.standard_normal(x.shape)
    difference = finite_difference.directional_derivative(lambda v: total_loss(params, v), x, direction)
    assert np.sum(found["dx"] * direction) == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_from_any_site_has_the_bits_of_the_whole(name, backend):
    network, be = NETWORKS[name], backends.get(backend)
    params, states, x, _ = problem(network, dtype=np.float32)
    starts = network.clean_starts(be, params, states, x)
    for site, start in enumerate(starts):
        later = {at: additive(0.5) for at in range(site, len(network.site_names))}
        conditions = conditions_of(later, training=False)
        whole = network.forward_from_site(be, params, states, x, conditions, 0)
        assert same_bits(network.forward_from_site(be, params, states, start, conditions, site), whole)
        if isinstance(start, dict):
            moved = network.replaced(start, site, network.activation(start, site) + 1)
            assert not same_bits(
                network.forward_from_site(be, params, states, moved, conditions, site), whole
            )


def test_a_start_that_lacks_what_is_read_is_an_error():
    params, states, x, _ = problem(BRANCHED)
    clean = BRANCHED.clean_activations(BE, params, states, x)
    site = BRANCHED.site_names.index("block1.relu1")
    with pytest.raises(WnError, match=r"behind site 'block1.relu1' read 'bn1' as well: start from"):
        BRANCHED.forward_from_site(BE, params, states, clean[site], conditions_of({}, False), site)


@pytest.mark.parametrize("name", NETWORKS)
def test_backends_agree_and_fusion_changes_nothing(name):
    network = NETWORKS[name]
    params, states, x, labels = problem(network, dtype=np.float32)
    conditions = conditions_of({})
    found = {}
    for backend in ("numpy", "numba"):
        be = backends.get(backend)
        loss, grads, _ = training.loss_and_gradients(be, network, params, states, x, labels, conditions)
        found[backend] = {"loss": loss, **by_name(network, grads)}
    for key, value in found["numpy"].items():
        np.testing.assert_allclose(found["numba"][key], value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_recorded_with_the_bits_of_steps_one_by_one(name):
    network, found = NETWORKS[name], {}
    settings, noise = training.TrainSettings(2, 16, 1e-2), {3: additive(0.2)}
    for be in (Anew(), watched := Watched()):
        with be.working(1):
            found[be] = training.train(be, network, tiny_data(network), settings, seeds=(1, 2), noise=noise)
    assert watched.last.repeats > 0
    for ours, theirs in zip(*(arrays(tuple(one)[:2]) for one in found.values()), strict=True):
        assert same_bits(ours, theirs)


def test_members_keep_to_themselves():
    params, states, x, labels = problem(BRANCHED)
    conditions = conditions_of(everywhere(len(BRANCHED.site_names), additive([0.3, 0.7])))
    both = gradients(BRANCHED, params, states, x, labels, conditions)
    changed = tuple(
        type(tree)(*(np.concatenate((array[:1], 2 * array[1:])) for array in tree)) if tree else ()
        for tree in params
    )
    other = gradients(BRANCHED, changed, states, x, labels, conditions)
    for key, value in both.items():
        if key != "dx" or len(value) == 2:
            np.testing.assert_array_equal(other[key][0], value[0])


def node(name, layer, *inputs):
    return Node(name, layer, inputs=inputs)


def test_errors_of_graphs():
    fc = layers.Linear(6)
    with pytest.raises(WnError, match=r"layer 'b' takes its input from 'c': allowed are .* input, a$"):
        Network("net", (node("a", fc), node("b", fc, "c")), (6,))
    with pytest.raises(WnError, match="nothing takes the output of 'a'"):
        Network("net", (node("a", fc), node("b", fc, "input")), (6,))
    with pytest.raises(WnError, match="layer 'b' takes one input, got a, input"):
        Network("net", (node("a", fc), node("b", fc, "a", "input")), (6,))
    with pytest.raises(WnError, match="a layer is called 'a': allowed is a text that no other layer has"):
        Network("net", (node("a", fc), node("a", fc)), (6,))
    with pytest.raises(WnError, match="net has no layers"):
        Network("net", (), (6,))
