"""The networks of the study: sites, shapes, sizes, errors, and gradients as a whole against naive code."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from reference import naive_network
from wn.basics.errors import WnError
from wn.engine import backends, models
from wn.engine import loss as losses
from wn.engine.layers import noise as noise_layer
from wn.engine.layers.batch_norm import BatchNormParams
from wn.engine.network import Conditions
from wn.engine.noise import everywhere, mixed_direct

BE = backends.get("numpy")

# The study's table. Every network but VGG11 has the same names in a row with and without batch norm.
SITES = {
    "mlp": "input fc1 bn1 relu1 fc2 bn2 relu2 fc3 bn3 relu3 logits",
    "lenet5": "input conv1 bn1 relu1 pool1 conv2 bn2 relu2 pool2 fc1 bn3 relu3 fc2 bn4 relu4 logits",
    "cnn-s": "input conv1 bn1 relu1 conv2 bn2 relu2 fc1 bn3 relu3 logits",
    "vgg11": (
        "input conv1 bn1 relu1 pool1 conv2 bn2 relu2 pool2 conv3 bn3 relu3 conv4 bn4 relu4 pool3 "
        "conv5 bn5 relu5 conv6 bn6 relu6 pool4 conv7 bn7 relu7 conv8 bn8 relu8 pool5 avgpool logits"
    ),
    # drops the last M and the BN and ReLU before it: the last convolution is followed by avgpool
    "vgg11-28": (
        "input conv1 bn1 relu1 pool1 conv2 bn2 relu2 pool2 conv3 bn3 relu3 conv4 bn4 relu4 pool3 "
        "conv5 bn5 relu5 conv6 bn6 relu6 pool4 conv7 bn7 relu7 conv8 avgpool logits"
    ),
}
SITES |= {name: SITES["mlp"] for name in models.names() if name.startswith("mlp-")}
SITES |= {"cnn-m": SITES["cnn-s"], "cnn-l": SITES["cnn-s"], "tfc": SITES["mlp"]}

NUMBER_OF_SITES = {  # with batch norm, without
    "mlp": (11, 8),
    "lenet5": (16, 12),
    "cnn-s": (11, 8),
    "vgg11": (32, 24),
    "vgg11-28": (29, 22),
}


def default_network(name, batch_norm="none"):
    default = models.default_input(name)
    return models.build(name, default.shape, default.classes, batch_norm)


# ---- sites ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SITES)
def test_sites_are_those_of_the_table(name):
    with_batch_norm = tuple(SITES[name].split())
    without = tuple(site for site in with_batch_norm if not site.startswith("bn"))
    assert default_network(name, "sites").site_names == with_batch_norm
    assert default_network(name, "none").site_names == without
    assert default_network(name, "hidden").site_names == without


@pytest.mark.parametrize("name", NUMBER_OF_SITES)
def test_number_of_sites(name):
    counts = [len(default_network(name, batch_norm).site_names) for batch_norm in ("sites", "none")]
    assert tuple(counts) == NUMBER_OF_SITES[name]


@pytest.mark.parametrize(
    ("name", "batch_norm", "sites"),
    [
        ("mlp", "sites", {0: "input", 5: "bn2", 10: "logits"}),
        ("mlp", "none", {1: "fc1", 4: "relu2", 7: "logits"}),
        ("lenet5", "sites", {4: "pool1", 9: "fc1", 10: "bn3", 11: "relu3", 14: "relu4", 15: "logits"}),
        ("lenet5", "none", {3: "pool1", 7: "fc1", 8: "relu3", 10: "relu4", 11: "logits"}),
        ("cnn-s", "sites", {4: "conv2", 7: "fc1", 8: "bn3", 9: "relu3"}),
        ("cnn-s", "none", {3: "conv2", 5: "fc1", 6: "relu3"}),
        ("vgg11", "sites", {4: "pool1", 8: "pool2", 11: "relu3", 15: "pool3", 18: "relu5", 22: "pool4"}),
        ("vgg11", "sites", {25: "relu7", 29: "pool5", 30: "avgpool", 31: "logits"}),
        ("vgg11", "none", {3: "pool1", 6: "pool2", 8: "relu3", 11: "pool3", 13: "relu5", 16: "pool4"}),
        ("vgg11", "none", {18: "relu7", 21: "pool5", 22: "avgpool", 23: "logits"}),
    ],
)
def test_sites_by_index(name, batch_norm, sites):
    names = default_network(name, batch_norm).site_names
    assert {index: names[index] for index in sites} == sites


@pytest.mark.parametrize("name", models.names())
def test_hidden_batch_norm_is_there_without_a_site(name):
    layers = {bn: [node.name for node in default_network(name, bn).nodes] for bn in models.BATCH_NORM}
    assert layers["hidden"] == layers["sites"]
    assert len(layers["hidden"]) > len(layers["none"])


# ---- shapes and sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "site", "expected"),
    [
        ("lenet5", (1, 28, 28), "conv1", (6, 24, 24)),
        ("lenet5", (1, 28, 28), "pool2", (16, 4, 4)),  # 256 features
        ("lenet5", (3, 32, 32), "pool2", (16, 5, 5)),  # 400 features
        ("lenet5", (1, 28, 28), "relu4", (84,)),
        ("cnn-s", (1, 10, 49), "conv1", (28, 7, 20)),
        ("cnn-s", (1, 10, 49), "relu2", (30, 4, 11)),
        ("cnn-m", (1, 10, 49), "conv1", (64, 7, 20)),
        ("cnn-m", (1, 10, 49), "conv2", (48, 4, 11)),
        ("cnn-l", (1, 10, 49), "conv1", (60, 7, 20)),
        ("cnn-l", (1, 10, 49), "conv2", (76, 4, 11)),
        ("vgg11", (3, 32, 32), "pool1", (64, 16, 16)),
        ("vgg11", (3, 32, 32), "avgpool", (512, 1, 1)),
        ("vgg11-28", (1, 28, 28), "pool3", (256, 3, 3)),
        ("vgg11-28", (1, 28, 28), "conv8", (512, 1, 1)),
    ],
)
def test_shapes_at_sites(name, shape, site, expected):
    network = models.build(name, shape, 10)
    assert network.site_shapes()[network.site_names.index(site)] == expected


def test_parameter_counts_by_hand():
    count = {name: models.parameter_count(default_network(name)) for name in models.names()}
    assert count["mlp-64"] == (784 * 64 + 64) + 2 * (64 * 64 + 64) + (64 * 10 + 10)
    assert count["mlp-1024"] == (784 * 1024 + 1024) + 2 * (1024 * 1024 + 1024) + (1024 * 10 + 10)
    lenet = (25 * 6 + 6) + (6 * 25 * 16 + 16) + (256 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert count["lenet5"] == lenet == 44_426
    # LeNet-5 for 32×32, or 28×28 with padding, is the one of 61,706 parameters
    assert models.parameter_count(models.build("lenet5", (1, 32, 32), 10)) == lenet + 144 * 120 == 61_706
    cnn_s = (40 * 28 + 28) + (28 * 40 * 30 + 30) + (30 * 44 * 128 + 128) + (128 * 12 + 12)
    assert count["cnn-s"] == cnn_s == 205_414
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    vgg = sum(9 * a * b + b for a, b in pairwise(channels)) + 512 * 10 + 10
    assert count["vgg11"] == vgg == 9_225_610
    assert count["vgg11-28"] == vgg - 2 * 9 * 64


@pytest.mark.parametrize("batch_norm", ["sites", "hidden"])
def test_batch_norm_adds_two_parameters_per_feature(batch_norm):
    features = {"mlp-64": 3 * 64, "lenet5": 6 + 16 + 120 + 84, "cnn-s": 28 + 30 + 128}
    for name, expected in features.items():
        counts = [models.parameter_count(default_network(name, bn)) for bn in (batch_norm, "none")]
        assert counts[0] - counts[1] == 2 * expected


def test_cost_by_hand():
    cost = {name: models.cost_per_image(default_network(name, "sites")) for name in models.names()}
    assert cost["mlp-64"] == 784 * 64 + 2 * 64 * 64 + 640
    assert cost["lenet5"] == 6 * 576 * 25 + 16 * 64 * 150 + 256 * 120 + 120 * 84 + 840
    assert cost["cnn-s"] == 28 * 140 * 40 + 30 * 44 * 28 * 40 + 1320 * 128 + 128 * 12
    assert (
        cost["vgg11"]
        == 9
        * (
            3 * 64 * 1024
            + 64 * 128 * 256
            + (128 * 256 + 256 * 256) * 64
            + (256 * 512 + 512 * 512) * 16
            + 2 * 512 * 512 * 4
        )
        + 5120
    )


@pytest.mark.parametrize("name", ["mlp-8", "lenet5", "cnn-s"])
def test_parameter_count_is_that_of_the_arrays(name):
    network = default_network(name, "sites")
    params = network.initial_parameters(BE, (7,), np.float32)
    assert models.parameter_count(network) == sum(a.size for layer in params for a in layer)


def test_default_inputs():
    assert models.default_input("vgg11") == ((3, 32, 32), 10)
    assert models.default_input("cnn-l") == ((1, 10, 49), 12)
    assert models.default_input("mlp") == models.default_input("lenet5") == ((1, 28, 28), 10)


@pytest.mark.parametrize("name", ["mlp-8", "lenet5", "cnn-s"])
@pytest.mark.parametrize("batch_norm", models.BATCH_NORM)
def test_logits_of_a_population_on_a_shared_batch(name, batch_norm):
    network = default_network(name, batch_norm)
    params = network.initial_parameters(BE, (1, 2), np.float32)
    states = network.initial_states(BE, 2, np.float32)
    x = np.random.default_rng(0).random((1, *network.input_shape, 3), np.float32)
    for training in (False, True):
        conditions = Conditions({}, (1, 2), np.arange(3), 0, training)
        logits, cache, _ = network.forward(BE, params, states, x, conditions)
        assert logits.shape == (2, network.classes, 3)
        assert logits.dtype == np.float32
        dx, grads = network.backward(BE, logits, cache, need_dx=True)
        assert dx.shape == (2, *x.shape[1:])
        assert [type(g) for g in grads] == [type(p) for p in params]
        assert {a.dtype for layer in grads for a in layer} == {np.dtype(np.float32)}


def documented_rows():
    """Return the cells of each row of the tables in docs/networks.md."""
    lines = (Path(__file__).parents[2] / "docs" / "networks.md").read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def test_documented_sizes():
    rows = [row for row in documented_rows() if len(row) == 7]
    assert [row[0] for row in rows] == [f"`{name}`" for name in models.names()]
    for cells in rows:
        name = cells[0].strip("`")
        plain, normed = (default_network(name, batch_norm) for batch_norm in ("none", "sites"))
        assert cells[1] == "×".join(map(str, plain.input_shape))
        assert cells[2] == str(plain.classes)
        sizes = (models.parameter_count(plain), models.parameter_count(normed), models.cost_per_image(plain))
        assert cells[4:] == [f"{size:,}" for size in sizes]


def test_documented_sites():
    rows = [row for row in documented_rows() if len(row) == 3]
    assert len(rows) == 2 * len(NUMBER_OF_SITES)
    for network, count, sites in rows:
        batch_norm = "sites" if network.endswith(", batch norm") else "none"
        names = default_network(network.split("`")[1], batch_norm).site_names
        assert count == str(len(names))
        assert sites == " · ".join(f"{index} {name}" for index, name in enumerate(names))


# ---- names and errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "name"), [("mlp", "mlp-64"), ("tfc", "mlp-64"), ("sfc", "mlp-256"), ("lfc", "mlp-1024")]
)
def test_aliases(alias, name):
    assert models.check_name(alias) == name
    assert models.build(alias, (1, 28, 28), 10) == models.build(name, (1, 28, 28), 10)
    assert models.build(alias, (1, 28, 28), 10).name == name


def test_unknown_names_list_what_is_allowed():
    for function in (
        models.check_name,
        models.default_input,
        lambda name: models.build(name, (1, 28, 28), 10),
    ):
        with pytest.raises(WnError) as error:
            function("lenet")
        assert "unknown model 'lenet'" in str(error.value)
        for name in (*models.names(), *models.ALIASES):
            assert name in str(error.value)
    with pytest.raises(WnError, match="unknown batch_norm 'yes': allowed are none, sites, hidden"):
        models.build("mlp", (1, 28, 28), 10, "yes")


@pytest.mark.parametrize(
    ("name", "shape", "layer", "reaching"),
    [
        ("lenet5", (1, 4, 28), "conv1", (1, 4, 28)),
        ("lenet5", (1, 12, 12), "conv2", (6, 4, 4)),
        ("lenet5", (1, 14, 14), "pool2", (16, 1, 1)),
        ("cnn-s", (1, 28, 26), "conv2", (28, 25, 9)),
        ("cnn-m", (1, 3, 49), "conv1", (1, 3, 49)),
        ("vgg11", (1, 28, 28), "pool5", (512, 1, 1)),
        ("vgg11-28", (1, 8, 8), "pool4", (512, 1, 1)),
    ],
)
def test_an_input_that_does_not_fit_names_the_layer_and_both_shapes(name, shape, layer, reaching):
    with pytest.raises(WnError) as error:
        models.build(name, shape, 10)
    message = str(error.value)
    assert message.startswith(f"{name}: layer '{layer}' does not fit")
    assert str(reaching) in message
    assert str(shape) in message
    assert "\n" not in message


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 0), (1, 28, -28), (1, 28.0, 28), (), (1, 1, 28, 28)])
def test_input_shapes_are_channels_height_width(shape):
    with pytest.raises(WnError, match=r"input shape is .* must be \(channels, height, width\)"):
        models.build("mlp", shape, 10)


@pytest.mark.parametrize("classes", [0, -1, 2.0, True, "10"])
def test_classes_are_a_positive_integer(classes):
    with pytest.raises(WnError, match=r"classes is .* integer of at least 1"):
        models.build("mlp", (1, 28, 28), classes)


# ---- gradients of whole networks ------------------------------------------------------------------------

SMALL_INPUTS = {
    "mlp-8": (1, 3, 3),
    "lenet5": (1, 16, 16),
    "cnn-s": (1, 7, 28),
    "cnn-m": (1, 7, 28),
    "cnn-l": (1, 7, 28),
    "vgg11": (1, 32, 32),
    "vgg11-28": (1, 16, 16),
}
BATCH = 3


def naive_layers(network, params):
    """Return the network as tuples for `reference.naive_network`, in training."""
    kinds = {
        "Linear": lambda layer, p: ("linear", *p),
        "Convolution": lambda layer, p: ("convolution", *p, layer.stride, layer.padding),
        "BatchNorm": lambda layer, p: ("batch_norm", *p),
        "Relu": lambda layer, p: ("relu",),
        "Flatten": lambda layer, p: ("flatten",),
        "MaxPooling": lambda layer, p: ("max_pool", layer.window),
        "AveragePooling": lambda layer, p: ("average_pool", layer.window),
    }
    return [
        kinds[type(node.layer).__name__](node.layer, p) for node, p in zip(network.nodes, params, strict=True)
    ]


def noise_draws(network, operator, conditions):
    """Return the draws of mixed noise at each site, as `naive_network` takes them: (gain, offset, order)."""
    draws = {}
    for site, shape in enumerate(network.site_shapes()):
        streams = noise_layer.draws(
            conditions.seeds, conditions.samples, conditions.epoch, site, training=True
        )
        z_mul, z_add = (
            BE.standard_draws(key, int(np.prod(shape))).reshape(1, 1, *shape, BATCH).astype(np.float64)
            for key in (streams.mul, streams.add)
        )
        draws[site] = (1 + operator.sigma_mul * z_mul, operator.sigma_add * z_add, operator.order)
    return draws


def small_network(name, batch_norm, monkeypatch):
    """Build a network for a small input, with few channels, and parameters that let signals through."""
    monkeypatch.setattr(models, "VGG11", (3, "M", 4, "M", 3, 5, "M", 4, 3, "M", 5, 4, "M"))
    monkeypatch.setattr(models, "CNN_CHANNELS", {"cnn-s": (4, 3), "cnn-m": (6, 4), "cnn-l": (5, 7)})
    network = models.build(name, SMALL_INPUTS[name], 3, batch_norm)
    fresh = network.initial_parameters(BE, (5,), np.float64)
    rng = np.random.default_rng(0)
    params = []
    for node, layer in zip(network.nodes, fresh, strict=True):
        if node.name.startswith("bn"):  # fresh ones are 1 and 0 and would hide errors
            layer = BatchNormParams(*(rng.uniform(0.5, 1.5, a.shape) for a in layer))
        elif layer:
            layer = layer._replace(w=2 * layer.w, b=layer.b + 0.2)  # else deep ReLUs may all be off
        params.append(layer)
    return network, tuple(params)


@pytest.mark.parametrize(
    ("batch_norm", "noisy"),
    # the naive network counts every batch norm as a site: hidden ones are compared without noise
    [("none", False), ("none", True), ("sites", True), ("hidden", False)],
)
@pytest.mark.parametrize("name", SMALL_INPUTS)
def test_gradients_of_a_whole_network(name, batch_norm, noisy, monkeypatch):
    network, params = small_network(name, batch_norm, monkeypatch)
    operator = mixed_direct(0.3, 0.2)
    sites = everywhere(len(network.site_names), operator) if noisy else {}
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((1, *network.input_shape, BATCH)), np.array([0, 2, 2])
    conditions = Conditions(sites, (9,), np.array([4, 1, 17]), 3, training=True)
    states = network.initial_states(BE, 1, np.float64)

    logits, cache, _ = network.forward(BE, params, states, x, conditions)
    loss, loss_cache = losses.forward(BE, logits, labels)
    dx, grads = network.backward(BE, losses.backward(BE, loss_cache), cache, need_dx=True)

    draws = noise_draws(network, operator, conditions) if noisy else {}
    expected = naive_network.network_gradients(naive_layers(network, params), x, labels, draws=draws)
    np.testing.assert_allclose(logits, expected.logits, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-9)
    assert_relative(dx, expected.dx, np.abs(expected.dx).max(), "dx")
    for node, actual, wanted in zip(network.nodes, grads, expected.gradients, strict=True):
        size = max((np.abs(array).max() for array in wanted), default=0.0)  # a bias before BN has gradient 0
        for field, a, b in zip(getattr(actual, "_fields", ()), actual, wanted, strict=True):
            assert_relative(a, b, size, f"{node.name} {field}")


def assert_relative(actual, expected, size, name):
    """|actual − expected| ≤ 1e-9 of the largest gradient of the layer, which must not be 0 throughout."""
    assert actual.shape == expected.shape, name
    assert size > 0, name
    difference = np.abs(actual - expected).max()
    assert difference <= 1e-9 * size, f"{name}: off by {difference:.3g}, the largest gradient is {size:.3g}"
