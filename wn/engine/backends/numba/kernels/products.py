"""Matrix products of linear layers: BLAS from within compiled loops, divided into parts of fixed size.

BLAS comes from SciPy, which publishes the addresses of its routines (scipy.linalg.cython_blas). Every part is
one call by one thread; which parts there are depends on the shapes of one member alone.
"""

from typing import Any

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from wn.engine.backends.numba.kernels.compile import SUMS, parallel, serial
from wn.engine.backends.numba.kernels.rectifier import cut_off, mask_to

NO, YES = ord("N"), ord("T")  # transposed?


def gemm_address(dtype: str) -> int:
    """Return the address of SciPy's sgemm (dtype float32) or dgemm (float64)."""
    name = {"float32": "sgemm", "float64": "dgemm"}[dtype]
    address: int = get_cython_function_address("scipy.linalg.cython_blas", name)
    return address


def _gemm(
    typing: Any,
    address: Any,
    transpose_a: Any,
    transpose_b: Any,
    m: Any,
    n: Any,
    k: Any,
    a: Any,
    lda: Any,
    b: Any,
    ldb: Any,
    beta: Any,
    c: Any,
    ldc: Any,
) -> Any:
    """Call BLAS at `address`: c ← op(a) op(b) + beta·c in Fortran's order, op(a) being m × k, op(b) k × n.

    Matrices are arrays of which only the first element's address is used; each of their columns is lda, ldb
    or ldc elements behind the one before. A row-major matrix is its own transpose in Fortran's order.
    """
    whole = (types.intp,) * 6
    signature = types.void(*whole, a, types.intp, b, types.intp, types.float64, c, types.intp)
    element = a.dtype

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real = context.get_value_type(element)

        def put(value: Any) -> Any:  # BLAS takes the address of every argument
            return cgutils.alloca_once_value(builder, value)

        def number(index: int, bits: int = 32) -> Any:
            return put(builder.trunc(arguments[index], ir.IntType(bits)))

        def first(index: int) -> Any:
            array = context.make_array(signature.args[index])
            return array(context, builder, arguments[index]).data

        beta = arguments[10]
        passed = [
            *(number(index, 8) for index in (1, 2)),
            *(number(index) for index in (3, 4, 5)),
            put(ir.Constant(real, 1.0)),
            *(first(6), number(7), first(8), number(9)),
            put(beta if element == types.float64 else builder.fptrunc(beta, real)),
            *(first(11), number(12)),
        ]
        routine = ir.FunctionType(ir.VoidType(), [argument.type for argument in passed])
        builder.call(builder.inttoptr(arguments[0], routine.as_pointer()), passed)
        return context.get_dummy_value()

    return signature, build


gemm: Any = intrinsic(_gemm)  # called with all arguments but the first


@parallel()
def linear(address: int, w: Any, x: Any, b: Any, y: Any, tile: int, relu: bool) -> None:
    """y[p] = w[p] x[p] + b[p], in tiles of samples: (P|1, O, I), (P|1, I, B), (P|1, O) → (P, O, B).

    With `relu`, what is negative is cut off.
    """
    members, outputs, batch = y.shape
    inputs = w.shape[2]
    tiles = (batch + tile - 1) // tile
    for item in prange(tiles * members):  # a tile of a shared x stays in the cache for all members
        p, start = item % members, item // members * tile
        stop = min(start + tile, batch)
        for o in range(outputs):
            y[p, o, start:stop] = b[p % len(b), o]
        xs, ys, ws = x[p % len(x), :, start:], y[p, :, start:], w[p % len(w)]
        gemm(address, NO, NO, stop - start, outputs, inputs, xs, batch, ws, inputs, 1.0, ys, batch)
        if relu:
            for o in range(outputs):
                cut_off(y[p, o, start:stop])


@parallel()
def linear_backward(
    address: int,
    dy: Any,
    y: Any,
    dmade: Any,
    x: Any,
    w: Any,
    dx: Any,
    dw: Any,
    db: Any,
    samples: int,
    inputs: int,
) -> None:
    """dx[p] = w[p]ᵀ dy[p] in tiles of samples, dw[p] = dy[p] x[p]ᵀ in tiles of inputs, db[p] = Σ_n dy[p].

    dy: (P, O, B); x: (P|1, I, B); w: (P|1, O, I); dx: (P, I, B), or (0, I, B) if it is not wanted;
    dw: (P, O, I); db: (P, O). All tiles are items of one loop: one thread may have those of dx, another
    those of dw.
    Before a ReLU with output y they are those of dmade, (P, O, B), the gradient of what goes into it: dy
    where y > 0, else 0; without a ReLU y and dmade are (0, O, B).
    """
    members, outputs, _ = dy.shape
    if len(dmade) > 0:
        for item in prange(members * outputs):
            p, o = item // outputs, item % outputs
            mask_to(dmade[p, o], dy[p, o], y[p % len(y), o])
        dy = dmade
    dx_tiles = -(-dy.shape[2] // samples) if len(dx) > 0 else 0
    dw_tiles = -(-x.shape[1] // inputs)
    for item in prange((dx_tiles + dw_tiles) * members):  # a tile of a shared x: one member after the other
        p, tile = item % members, item // members
        if tile < dx_tiles:
            _input_gradient(address, w[p % len(w)], dy[p], dx[p], tile * samples, samples)
        else:
            start = (tile - dx_tiles) * inputs
            _weight_gradient(address, dy[p], x[p % len(x)], dw[p], start, inputs)
            if start == 0:
                for o in range(outputs):
                    db[p, o] = _sum(dy[p, o])


@serial()
def _input_gradient(address: int, w: Any, dy: Any, dx: Any, start: int, samples: int) -> None:
    outputs, inputs = w.shape
    batch = dy.shape[1]
    columns = min(samples, batch - start)
    dys, dxs = dy[:, start:], dx[:, start:]
    gemm(address, NO, YES, columns, inputs, outputs, dys, batch, w, inputs, 0.0, dxs, batch)


@serial()
def _weight_gradient(address: int, dy: Any, x: Any, dw: Any, start: int, inputs: int) -> None:
    outputs, batch = dy.shape
    columns = min(inputs, len(x) - start)
    xs, dws = x[start:], dw[:, start:]
    gemm(address, YES, NO, columns, outputs, batch, xs, batch, dy, batch, 0.0, dws, len(x))


@serial(SUMS)
def flat_sum(values: Any) -> Any:
    """The sum of a flat array, in lanes."""
    total = values.dtype.type(0)
    for m in range(len(values)):
        total += values[m]
    return total


@serial(SUMS)
def _sum(values: Any) -> Any:
    """The same from the first value on: where the lanes begin decides about the last bit."""
    total = values[0]
    for n in range(1, len(values)):
        total += values[n]
    return total
