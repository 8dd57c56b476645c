"""Operators of ONNX that are layers: their attributes and constants as settings and parameters.

What each operator means: https://onnx.ai/onnx/operators/.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.files.onnx.graph import BATCH, Read, Step
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import Weights
from wn.engine.layers.batch_norm import BatchNorm, BatchNormParams, RunningStatistics
from wn.engine.layers.convolution import Convolution, ConvolutionParams
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear, LinearParams
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.sliding.global_pooling import GlobalAveragePooling, GlobalMaxPooling
from wn.engine.networks.description import BY_NAME

Shape = tuple[int, ...]
Constant = NDArray[Any] | None


class Layered(NamedTuple):
    """A layer with the parameters and state of one member: arrays without the axis of the population."""

    layer: Any
    params: Any = ()
    state: Any = ()


def activation(name: str, settings: dict[str, Any]) -> Any:
    """The activation of that name; WnError for one that there is no layer for."""
    if name not in BY_NAME:
        raise WnError(f"there is no layer {name}")
    return BY_NAME[name](**settings)


def flatten() -> Flatten:
    """A flatten."""
    return Flatten()


def number(step: Step, value: Any, otherwise: float) -> float:
    """A constant that is one number, or what stands for none."""
    if value is None:
        return otherwise
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise WnError(f"{step.words}: a limit that is one constant number is needed")
    return float(value.reshape(-1)[0])


def _weights(step: Step, value: Any, what: str, axes: int, graph: Read) -> NDArray[Any]:
    """A constant of the network's type, with a given number of axes."""
    if not isinstance(value, np.ndarray) or value.ndim != axes:
        shape = f"shape {value.shape}" if isinstance(value, np.ndarray) else "no constant"
        raise WnError(f"{step.words}: its {what} are {shape}: constants with {axes} axes are needed")
    if value.dtype != graph.dtype:
        raise WnError(f"{step.words}: its {what} are {value.dtype}, its input is {np.dtype(graph.dtype)}")
    if not np.isfinite(value).all():
        raise WnError(f"{step.words}: its {what} have NaN or infinite values; all must be finite")
    return value


def _pair(step: Step, name: str, otherwise: int) -> tuple[int, int]:
    found = step.attributes.get(name) or [otherwise, otherwise]
    if len(found) != 2:
        raise WnError(f"{step.words}: {name} is {found}: two numbers are needed, for height and width")
    return found[0], found[1]


def _padding(step: Step) -> Any:
    """The padding: four numbers (top, left, bottom, right), or a word."""
    auto = step.attributes.get("auto_pad", "NOTSET")
    words = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": (0, 0)}
    if auto in words:
        return words[auto]
    if auto != "NOTSET":
        raise WnError(f"{step.words}: auto_pad is {auto!r}: allowed are NOTSET, {', '.join(words)}")
    pads = step.attributes.get("pads") or [0, 0, 0, 0]
    if len(pads) != 4:
        raise WnError(f"{step.words}: pads are {pads}: four numbers are needed, of images")
    return ((pads[0], pads[2]), (pads[1], pads[3]))


def _checked(step: Step, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except WnError as error:
        raise WnError(f"{step.words}: {error}") from None


# ---- layers with weights --------------------------------------------------------------------------------


def convolution(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """Conv: w (O, C / groups, KH, KW), b (O,) or none."""
    w = _weights(step, given[0] if given else None, "weights", 4, graph)
    b = given[1] if len(given) > 1 and given[1] is not None else None
    kernel = _pair(step, "kernel_shape", 0)
    if step.attributes.get("kernel_shape") and kernel != w.shape[2:]:
        raise WnError(f"{step.words}: kernel_shape is {kernel}, its weights have shape {w.shape}")
    if b is not None and _weights(step, b, "biases", 1, graph).shape != w.shape[:1]:
        raise WnError(f"{step.words}: its biases have shape {b.shape}: {w.shape[:1]} is needed")
    groups = step.attributes.get("group", 1)
    layer = _checked(
        step,
        lambda: Convolution(
            int(w.shape[0]),
            (int(w.shape[2]), int(w.shape[3])),
            stride=_pair(step, "strides", 1),
            padding=_padding(step),
            dilation=_pair(step, "dilations", 1),
            groups=groups,
            bias=b is not None,
        ),
    )
    if len(shape) != 3 or w.shape[1] * groups != shape[0]:
        raise WnError(f"{step.words}: weights of shape {w.shape} in {groups} groups do not fit {shape}")
    return Layered(layer, Weights(w) if b is None else ConvolutionParams(w, b))


def gemm(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """Gemm: y = α x Wᵀ + β b with W (O, I) where transB is set, else (I, O); b (O,)."""
    if step.attributes.get("transA", 0):
        raise WnError(f"{step.words}: transA is set, which would exchange samples and features")
    w = _weights(step, given[0] if given else None, "weights", 2, graph)
    alpha, beta = (step.attributes.get(name, 1.0) for name in ("alpha", "beta"))
    w = w if step.attributes.get("transB", 0) else w.T
    w = w if alpha == 1 else (alpha * w.astype(np.float64)).astype(w.dtype)
    bias = given[1] if len(given) > 1 else None
    if len(shape) != 1 or w.shape[1] != shape[0]:
        raise WnError(f"{step.words}: weights for {w.shape[1]} inputs do not fit {shape}")
    if bias is None or beta == 0:
        return Layered(Linear(int(w.shape[0]), bias=False), Weights(np.ascontiguousarray(w)))
    if isinstance(bias, np.ndarray) and bias.size > 1 and bias.shape[-1] != w.shape[0]:
        raise WnError(f"{step.words}: its biases of shape {bias.shape} differ by sample: not supported")
    b = _bias_of(step, bias, w.shape[0], w.dtype)
    b = b if beta == 1 else (beta * b.astype(np.float64)).astype(w.dtype)
    return Layered(Linear(int(w.shape[0])), LinearParams(np.ascontiguousarray(w), b))


def matmul(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """MatMul: y = x W with W (I, O)."""
    w = _weights(step, given[0] if given else None, "weights", 2, graph)
    if len(shape) != 1 or w.shape[0] != shape[0]:
        raise WnError(f"{step.words}: weights for {w.shape[0]} inputs do not fit {shape}")
    return Layered(Linear(int(w.shape[1]), bias=False), Weights(np.ascontiguousarray(w.T)))


def _bias_of(step: Step, value: Any, outputs: int, dtype: Any) -> NDArray[Any]:
    """One number for each output, of a constant that is the same for all samples (and pixels)."""
    if not isinstance(value, np.ndarray) or value.size not in (1, outputs) or value.dtype != dtype:
        what = (
            f"shape {value.shape} and type {value.dtype}" if isinstance(value, np.ndarray) else "no constant"
        )
        raise WnError(
            f"{step.words}: its biases are {what}: {outputs} of {dtype} are needed, the same for all samples"
        )
    return np.ascontiguousarray(np.broadcast_to(value.reshape(-1), (outputs,)))


def with_bias(step: Step, layer: Any, params: Any, shape: Shape, bias: NDArray[Any]) -> Layered:
    """A layer without bias with one that a node behind it adds: b (O,), for images (O, 1, 1)."""
    if not isinstance(layer, Convolution | Linear) or layer.bias:
        raise WnError(
            f"{step.words} adds a constant to what no layer without bias makes: that is not supported"
        )
    rest = len(shape) - 1
    sizes = bias.shape[-1 - rest :] if bias.ndim > rest else bias.shape
    if prod(bias.shape) not in (1, shape[0]) or (bias.size > 1 and tuple(sizes) != (shape[0], *[1] * rest)):
        raise WnError(
            f"{step.words} adds constants of shape {bias.shape} to {shape}: one for each channel is needed"
        )
    b = _bias_of(step, bias, shape[0], params.w.dtype)
    if isinstance(layer, Linear):
        return Layered(Linear(layer.features), LinearParams(params.w, b))
    settings = (layer.channels, layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups)
    return Layered(Convolution(*settings), ConvolutionParams(params.w, b))


def batch_norm(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """BatchNormalization at inference: γ, β, running mean and variance, each (C,)."""
    if step.attributes.get("training_mode", 0) or len([name for name in step.outputs if name]) > 1:
        raise WnError(f"{step.words} is in training mode: export the network for inference")
    if step.attributes.get("spatial", 1) != 1:
        raise WnError(f"{step.words}: spatial is 0: statistics by pixel are not supported")
    if len(given) < 4:
        raise WnError(f"{step.words} has {len(given)} constants: four are needed")
    gamma, beta, mean, variance = (
        _weights(step, value, what, 1, graph)
        for value, what in zip(given, ("scales", "shifts", "means", "variances"), strict=False)
    )
    if {x.shape for x in (gamma, beta, mean, variance)} != {(shape[0],)}:
        raise WnError(
            f"{step.words}: constants of shapes {gamma.shape} … {variance.shape} do not fit {shape}"
        )
    if (variance < 0).any():
        raise WnError(f"{step.words}: its variances are negative somewhere; all must be at least 0")
    settings = {
        "eps": step.attributes.get("epsilon", 1e-5),
        "momentum": 1 - step.attributes.get("momentum", 0.9),
    }
    return Layered(
        _batch_norm_layer(step, settings),
        BatchNormParams(gamma, beta),
        RunningStatistics(mean, variance, np.zeros_like(mean)),
    )


def _batch_norm_layer(step: Step, settings: dict[str, float]) -> BatchNorm:
    usual = {"eps": 1e-5, "momentum": 0.1}
    changed: dict[str, Any] = {
        name: float(f"{value:.6g}")
        for name, value in settings.items()
        if not np.isclose(value, usual[name], rtol=1e-5)
    }
    layer: BatchNorm = _checked(step, lambda: BatchNorm(**changed))
    return layer


# ---- poolings -------------------------------------------------------------------------------------------


def _pooling(step: Step, **more: Any) -> dict[str, Any]:
    if not step.attributes.get("kernel_shape"):
        raise WnError(f"{step.words} has no kernel_shape")
    if len([name for name in step.outputs if name]) > 1:
        raise WnError(f"{step.words} gives the places of its values too, which is not supported")
    if step.attributes.get("storage_order", 0):
        raise WnError(f"{step.words}: storage_order is set, which is not supported")
    return {
        "window": _pair(step, "kernel_shape", 0),
        "stride": _pair(step, "strides", 1),
        "padding": _padding(step),
        "dilation": _pair(step, "dilations", 1),
        "ceil_mode": bool(step.attributes.get("ceil_mode", 0)),
        **more,
    }


def max_pooling(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """MaxPool."""
    return Layered(_checked(step, lambda: MaxPooling(**_pooling(step))))


def average_pooling(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """AveragePool."""
    counts = bool(step.attributes.get("count_include_pad", 0))
    return Layered(_checked(step, lambda: AveragePooling(**_pooling(step, count_include_pad=counts))))


def global_average_pooling(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """GlobalAveragePool."""
    return Layered(GlobalAveragePooling())


def global_max_pooling(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """GlobalMaxPool."""
    return Layered(GlobalMaxPooling())


def reduce_mean(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """ReduceMean over height and width: a global average pooling; without keepdims a flatten follows."""
    axes = given[0] if given and given[0] is not None else step.attributes.get("axes")
    found = sorted(int(axis) % 4 for axis in np.atleast_1d(axes)) if axes is not None else []
    if len(shape) != 3 or found != [2, 3]:
        raise WnError(
            f"{step.words} takes the mean along the axes {found}: allowed are those of the pixels, 2 and 3"
        )
    return Layered(GlobalAveragePooling())


def zero_padding(step: Step, shape: Shape, given: Sequence[Any], graph: Read) -> Layered:
    """Pad with zeros around images."""
    mode = step.attributes.get("mode", "constant")
    pads = (
        given[0]
        if given and given[0] is not None
        else step.attributes.get("pads", step.attributes.get("paddings"))
    )
    value = number(step, given[1] if len(given) > 1 else None, step.attributes.get("value", 0.0))
    if len(given) > 2 and given[2] is not None:
        raise WnError(f"{step.words}: axes of its own are not supported")
    sizes = [int(size) for size in np.atleast_1d(pads)] if pads is not None else []
    if mode != "constant" or value != 0 or len(sizes) != 8 or len(shape) != 3:
        raise WnError(
            f"{step.words}: allowed are zeros around images, not mode {mode!r}, value {value:g}, pads {sizes}"
        )
    if any(sizes[place] for place in (0, 1, 4, 5)) or min(sizes) < 0:
        raise WnError(f"{step.words}: pads are {sizes}: allowed are those of height and width, at least 0")
    padding = ((sizes[2], sizes[6]), (sizes[3], sizes[7]))
    return Layered(_checked(step, lambda: BY_NAME["ZeroPadding"](padding)))


MAKERS: dict[str, Callable[[Step, Shape, Sequence[Any], Read], Layered]] = {
    "Conv": convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "MaxPool": max_pooling,
    "AveragePool": average_pooling,
    "GlobalAveragePool": global_average_pooling,
    "GlobalMaxPool": global_max_pooling,
    "ReduceMean": reduce_mean,
    "Pad": zero_padding,
}

# ---- shapes ---------------------------------------------------------------------------------------------

RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose")


def reshaped(step: Step, shape: Shape, given: Sequence[Any], batch: int) -> Shape:
    """The shape of one sample after a node that moves no number; WnError if it moves samples or numbers."""
    whole = (batch, *shape)
    match step.op:
        case "Flatten":
            axis = step.attributes.get("axis", 1)
            axis = axis + len(whole) if axis < 0 else axis
            if axis != 1:
                raise WnError(f"{step.words}: axis is {axis}: allowed is 1, which keeps samples apart")
            return (prod(shape),)
        case "Transpose":
            order = tuple(step.attributes.get("perm") or range(len(whole))[::-1])
            moved = [place for place in order if (place < len(whole) and whole[place] > 1) or place == 0]
            if sorted(order) != list(range(len(whole))) or moved != sorted(moved) or order[0] != 0:
                raise WnError(f"{step.words}: perm is {order}: allowed is an order that moves no number")
            return tuple(whole[place] for place in order[1:])
        case "Reshape":
            return _target(step, shape, given, batch)
    axes = given[0] if given and given[0] is not None else step.attributes.get("axes")
    places = [int(axis) for axis in np.atleast_1d(axes)] if axes is not None else []
    array = np.broadcast_to(np.zeros((), bool), (2, *shape))  # an axis of samples that is not 1
    try:
        found = (
            np.expand_dims(array, tuple(places))
            if step.op == "Unsqueeze"
            else np.squeeze(array, tuple(places) or None)
        )
    except ValueError as error:
        raise WnError(f"{step.words}: axes {places} do not fit {shape}: {error}") from None
    if found.shape[0] != 2:
        raise WnError(f"{step.words}: axes are {places}: the first is that of the samples")
    return tuple(int(size) for size in found.shape[1:])


def _target(step: Step, shape: Shape, given: Sequence[Any], batch: int) -> Shape:
    """The shape that a Reshape asks for, which has to keep samples apart."""
    target = given[0] if given and given[0] is not None else step.attributes.get("shape")
    if target is None or not isinstance(target, np.ndarray | list):
        raise WnError(f"{step.words}: its shape is no constant")
    sizes = [int(size) for size in np.atleast_1d(target)]
    keeps = step.attributes.get("allowzero", 0) == 0
    whole = (batch, *shape)
    sizes = [whole[i] if size == 0 and keeps and i < len(whole) else size for i, size in enumerate(sizes)]
    rest, count = sizes[1:], prod(shape)
    if not rest or sizes[0] not in (batch, BATCH, -1):
        raise WnError(f"{step.words}: its shape is {sizes}: the first size has to be that of the samples")
    if rest.count(-1) == 1 and sizes[0] != -1:
        known = prod(size for size in rest if size != -1)
        if known < 1 or count % known:
            raise WnError(f"{step.words}: {shape} can't become {rest}")
        rest = [count // known if size == -1 else size for size in rest]
    if any(size < 1 for size in rest) or prod(rest) != count:
        raise WnError(f"{step.words}: {shape} can't become {rest} for each sample")
    return tuple(rest)
