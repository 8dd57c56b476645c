"""Element-wise kernels: ReLU, joins of branches, Adam, clipping, network inputs, sums over features.

What happens to an element does not depend on its neighbours: arrays are cut into chunks for the threads.
"""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from wn.engine.backends.numba.kernels.compile import parallel, serial
from wn.engine.backends.numba.kernels.rectifier import mask_to

Array = Any


def _pointer_to(typing: Any, address: Any, like: Any) -> Any:
    """Turn an address into a pointer to values of the dtype of `like`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), build


_pointer: Any = intrinsic(_pointer_to)  # called with all arguments but the first

CHUNK = 2048  # values in a chunk: enough to hide its cost, few enough for an even share of small arrays
ALONE = 8192  # up to so many values one thread is faster: to start the others takes a few microseconds
SUMMED = 256  # samples whose sums a thread has at hand: 2 KiB
PIXELS, SAMPLES = 392, 128  # a tile of gathered images, at most: 49 KiB of bytes


# ---- sums over features ---------------------------------------------------------------------------------


@parallel()
def square_sums(x: Array, sums: Array) -> None:
    """Write sums[p, b] = Σ_f x[p, f, b]² in float64, added in the order of f. x: (P, F, B); sums: (P, B)."""
    population, _, batch = x.shape
    parts = -(-batch // SUMMED)
    for item in numba.prange(population * parts):
        p, first = item // parts, item % parts * SUMMED
        part = slice(first, min(first + SUMMED, batch))
        out = sums[p][part]
        out[:] = 0
        for f in range(x.shape[1]):
            _add_squares(x[p, f][part], out)  # rows: a loop over a part of a matrix is no vector loop


@serial()
def _add_squares(x: Array, sums: Array) -> None:
    for b in range(len(x)):
        value = np.float64(x[b])
        sums[b] += value * value


# ---- ReLU -----------------------------------------------------------------------------------------------


@parallel()
def relu(x: Array, y: Array) -> None:
    """Write y = max(x, 0); NaN stays NaN, −0 becomes 0. x, y: flat, of the same size."""
    size = len(x)
    if size <= ALONE:
        _relu(x, y)
        return
    for chunk in numba.prange(-(-size // CHUNK)):
        part = slice(chunk * CHUNK, min((chunk + 1) * CHUNK, size))
        _relu(x[part], y[part])


@serial()
def _relu(x: Array, y: Array) -> None:
    zero = x.dtype.type(0)
    for i in range(len(x)):
        value = x[i]
        y[i] = value if value > zero or value != value else zero  # only NaN differs from itself


@parallel()
def relu_backward(dy: Array, y: Array, dx: Array) -> None:
    """Write dx = dy where y > 0, else 0, whatever dy is there. dy, dx: (P, N); y: (P|1, N)."""
    members, size = dy.shape
    if members * size <= ALONE:
        for p in range(members):
            mask_to(dx[p], dy[p], y[p % len(y)])
        return
    chunks = -(-size // CHUNK)
    for item in numba.prange(members * chunks):
        p, chunk = item // chunks, item % chunks
        part = slice(chunk * CHUNK, min((chunk + 1) * CHUNK, size))
        mask_to(dx[p, part], dy[p, part], y[p % len(y), part])


# ---- joins ----------------------------------------------------------------------------------------------


@parallel()
def add(a: Array, b: Array, y: Array) -> None:
    """Write y = a + b. a, b: (P|1, N); y: (P, N)."""
    members, size = y.shape
    if members * size <= ALONE:
        for p in range(members):
            _add(a[p % len(a)], b[p % len(b)], y[p])
        return
    chunks = -(-size // CHUNK)
    for item in numba.prange(members * chunks):
        p, chunk = item // chunks, item % chunks
        part = slice(chunk * CHUNK, min((chunk + 1) * CHUNK, size))
        _add(a[p % len(a), part], b[p % len(b), part], y[p, part])


@serial()
def _add(a: Array, b: Array, y: Array) -> None:
    for i in range(len(y)):
        y[i] = a[i] + b[i]


@parallel()
def put(x: Array, y: Array, first: int) -> None:
    """Write y[p, first + c] = x[p, c]. x: (P|1, C, N); y: (P, ≥ first + C, N)."""
    channels = x.shape[1]
    for item in numba.prange(len(y) * channels):
        p, c = item // channels, item % channels
        y[p, first + c] = x[p % len(x), c]


@parallel()
def take(x: Array, y: Array, first: int) -> None:
    """Write y[p, c] = x[p, first + c]. x: (P, ≥ first + C, N); y: (P, C, N)."""
    channels = y.shape[1]
    for item in numba.prange(len(y) * channels):
        p, c = item // channels, item % channels
        y[p, c] = x[p, first + c]


# ---- optimiser ------------------------------------------------------------------------------------------


@serial()
def _adam(parameter: Array, gradient: Array, first: Array, second: Array, constants: Array) -> None:
    number = parameter.dtype.type  # constants are rounded to the parameters' dtype, as NumPy does
    step, beta1, beta2 = number(constants[0]), number(constants[1]), number(constants[2])
    new1, new2 = number(1 - constants[1]), number(1 - constants[2])
    correction, epsilon = number(constants[3]), number(constants[4])
    for i in range(len(parameter)):
        g = gradient[i]
        m = first[i] * beta1 + new1 * g
        v = second[i] * beta2 + new2 * g * g
        first[i], second[i] = m, v
        parameter[i] -= step * m / (np.sqrt(v) * correction + epsilon)


@parallel()
def adam(addresses: Array, sizes: Array, like: Array, constants: Array) -> None:
    """Update K parameters and their two moments in place, with the bits of `Backend.adam_update`.

    m ← β1 m + (1−β1) g,  v ← β2 v + (1−β2) g²,  θ ← θ − step·m / (√v·correction + ε).

    addresses: (K, 4), of parameters, gradients, first and second moments, arrays of the dtype of `like`;
    sizes: (K,); constants: (step, β1, β2, correction, ε), see `optim.adam_constants`. The chunks of all
    arrays are items of one loop.
    """
    chunks = 0
    for size in sizes:
        chunks += -(-size // CHUNK)
    for chunk in numba.prange(chunks):
        k, first = 0, chunk * CHUNK
        while first >= sizes[k]:  # the chunks of the arrays before
            first -= -(-sizes[k] // CHUNK) * CHUNK
            k += 1
        part = slice(first, min(first + CHUNK, sizes[k]))
        parameter = array_at(addresses[k, 0], sizes[k], like)[part]
        gradient = array_at(addresses[k, 1], sizes[k], like)[part]
        moment = array_at(addresses[k, 2], sizes[k], like)[part]
        second = array_at(addresses[k, 3], sizes[k], like)[part]
        _adam(parameter, gradient, moment, second, constants)


@serial()
def array_at(address: int, size: int, like: Array) -> Array:
    """Return the array of so many values at an address, with the dtype of `like`."""
    return numba.carray(_pointer(address, like), size)


@parallel()
def clip(w: Array, limit: float) -> None:
    """Clamp w to [−limit, limit] in place; NaN stays NaN. w: flat; limit ≥ 0."""
    size = len(w)
    if size <= ALONE:
        _clip(w, limit)
        return
    for chunk in numba.prange(-(-size // CHUNK)):
        _clip(w[chunk * CHUNK : min((chunk + 1) * CHUNK, size)], limit)


@serial()
def _clip(w: Array, limit: float) -> None:
    high = w.dtype.type(limit)
    low = -high
    for i in range(len(w)):
        value = low if w[i] < low else w[i]
        w[i] = high if value > high else value


# ---- batches --------------------------------------------------------------------------------------------


@parallel()
def gather(images: Array, samples: Array, scale: float, mean: Array, std: Array, x: Array) -> None:
    """Write x[c, i, n] = (images[samples[n], c, i] / scale − mean[c]) / std[c], with the plain code's bits.

    images: (N, C, H·W) of any real dtype; samples: (B,) integers in 0 … N − 1; mean, std: (C,) or (1,) in the
    dtype of x; x: (C, H·W, B). Samples are read along their pixels and written across them: tile by tile.
    """
    channels, pixels, batch = x.shape
    number = x.dtype.type
    divisor = number(scale)
    tiles = -(-pixels // PIXELS)
    side = -(-pixels // tiles)  # tiles of about one size
    for item in numba.prange(channels * tiles):
        c, first = item // tiles, item % tiles * side
        count = min(side, pixels - first)
        centre, width = mean[c % len(mean)], std[c % len(std)]
        tile = np.empty((SAMPLES, PIXELS), images.dtype)  # a width known when it is compiled: twice as fast
        for start in range(0, batch, SAMPLES):
            stop = min(start + SAMPLES, batch)
            for n in range(stop - start):
                tile[n, :count] = images[samples[start + n], c, first : first + count]
            if centre == 0 and width == 1:  # the same bits as below: divisions are slow
                for i in range(count):
                    y = x[c, first + i, start:stop]
                    for n in range(len(y)):
                        y[n] = number(tile[n, i]) / divisor
            else:
                for i in range(count):
                    y = x[c, first + i, start:stop]
                    for n in range(len(y)):
                        y[n] = (number(tile[n, i]) / divisor - centre) / width
