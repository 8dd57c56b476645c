"""Matrix products of linear layers: BLAS from within compiled loops, divided into parts of fixed size.

BLAS comes from SciPy, which publishes the addresses of its routines (scipy.linalg.cython_blas). Every part is
one call by one thread; which parts there are depends on the shapes of one member alone.
"""

from typing import Any

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from wn.backends.numba_kernels.compile import SUMS, parallel, serial

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
def linear(address: int, w: Any, x: Any, b: Any, y: Any, tile: int) -> None:
    """y[p] = w[p] x[p] + b[p], in tiles of samples: (P|1, O, I), (P|1, I, B), (P|1, O) → (P, O, B)."""
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


@parallel()
def linear_gradients(address: int, dy: Any, x: Any, dw: Any, db: Any, tile: int) -> None:
    """dw[p] = dy[p] x[p]ᵀ in tiles of inputs, db[p] = Σ_n dy[p]: (P, O, B), (P|1, I, B) → (P, O, I)."""
    members, outputs, inputs = dw.shape
    batch = dy.shape[2]
    tiles = (inputs + tile - 1) // tile
    for item in prange(tiles * members):
        p, start = item % members, item // members * tile
        rows = min(tile, inputs - start)
        xs, dws = x[p % len(x), start:], dw[p, :, start:]
        gemm(address, YES, NO, rows, outputs, batch, xs, batch, dy[p], batch, 0.0, dws, inputs)
        if start == 0:
            for o in range(outputs):
                db[p, o] = _sum(dy[p, o])


@serial(SUMS)
def _sum(values: Any) -> Any:
    total = values[0]
    for n in range(1, len(values)):
        total += values[n]
    return total


@parallel()
def linear_input_gradient(address: int, w: Any, dy: Any, dx: Any, tile: int) -> None:
    """dx[p] = w[p]ᵀ dy[p], in tiles of samples: (P|1, O, I), (P, O, B) → (P, I, B)."""
    members, inputs, batch = dx.shape
    outputs = dy.shape[1]
    tiles = (batch + tile - 1) // tile
    for item in prange(members * tiles):
        p, start = item // tiles, item % tiles * tile
        samples = min(tile, batch - start)
        dys, dxs, ws = dy[p, :, start:], dx[p, :, start:], w[p % len(w)]
        gemm(address, NO, YES, samples, inputs, outputs, dys, batch, ws, inputs, 0.0, dxs, batch)
