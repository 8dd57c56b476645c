"""The primitives of layers in plain array code over a namespace `xp`: see `base`."""

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from wn.engine.layers import cross_entropy, windows
from wn.engine.layers.windows import Array, Block, Pair, Sliding

# Columns (samples) of one matrix product; evaluation batches are whole tiles of it.
SAMPLE_TILE = 256

# Where squares of deviations leave the range, batch norm multiplies the row by this power of two. Whatever
# the deviations are then, up to twice the largest number of a dtype, their squares and sums of these fit.
UNITS = {"float32": 2.0**-100, "float64": 2.0**-800}


class Layers:
    """Products, element-wise functions, loss, convolution, pooling and batch norm."""

    xp: ModuleType

    def constant(self, values: Any, dtype: Any = None) -> Array:
        """Return `values` as an array that may be used again, and is not to be changed."""
        return self.xp.asarray(values, dtype)

    # ---- products ---------------------------------------------------------------------------------------

    def linear(self, w: Array, x: Array, b: Array) -> Array:
        """Return y[p] = w[p] x[p] + b[p]: (P|1, O, I) · (P|1, I, B), (P|1, O) → (P, O, B).

        BLAS may round a column differently according to its place among the others. Products are therefore
        taken member by member and in tiles of SAMPLE_TILE columns: a member's result does not depend on the
        population, nor a sample's on the batch, if batches begin at multiples of the tile.
        """
        batch = x.shape[2]
        y = self.xp.empty((max(len(w), len(x)), w.shape[1], batch), x.dtype)
        for start in range(0, batch, SAMPLE_TILE):
            tile = slice(start, start + SAMPLE_TILE)
            self.xp.matmul(w, x[:, :, tile], out=y[:, :, tile])
        y += b[:, :, None]
        return y

    def linear_gradients(self, dy: Array, x: Array) -> tuple[Array, Array]:
        """Return dw[p] = dy[p] x[p]ᵀ and db[p] = Σ_n dy[p]: (P, O, B), (P|1, I, B) → (P, O, I), (P, O)."""
        return self.xp.matmul(dy, x.transpose(0, 2, 1)), dy.sum(axis=2)

    def linear_input_gradient(self, w: Array, dy: Array) -> Array:
        """Return dx[p] = w[p]ᵀ dy[p]: (P|1, O, I) · (P, O, B) → (P, I, B)."""
        return self.xp.matmul(w.transpose(0, 2, 1), dy)

    def linear_backward(
        self, dy: Array, x: Array, w: Array, need_dx: bool
    ) -> tuple[Array | None, Array, Array]:
        """Return dx (None unless `need_dx`), dw, db: `linear_input_gradient` and `linear_gradients`."""
        dw, db = self.linear_gradients(dy, x)
        return (self.linear_input_gradient(w, dy) if need_dx else None), dw, db

    # ---- loss -------------------------------------------------------------------------------------------

    def check_labels(self, labels: Array, classes: int) -> None:
        """Raise WnError unless labels are integers (B,) in 0 … classes − 1, as far as that is known at once.

        On a device that would have to be waited for, the kernels look: the loss of other labels is NaN.
        """
        cross_entropy.check_labels(labels, classes)

    def shares(self, labels: Array, class_weights: Sequence[float] | None, dtype: Any) -> Array:
        """Return each sample's share of the mean loss (B,): 1/B, or its class's weight / the sum of all."""
        if class_weights is None:
            return self.xp.full(len(labels), 1 / len(labels), dtype)
        self.check_labels(labels, len(class_weights))
        weights = self.constant(class_weights, dtype)[labels]
        return weights / weights.sum()

    def count_correct(self, logits: Array, labels: Array, groups: int | None = None) -> Array:
        """Return how many labels (B,) are the largest of logits (P, K, ≥B); −1 if one is not finite: (P,).

        With `groups` G, by group of samples, n mod G: (P, G).
        """
        self.check_labels(labels, logits.shape[1])
        batch, parts = len(labels), 1 if groups is None else groups
        logits = logits[:, :, :batch]
        hits = (logits.argmax(axis=1) == labels).astype(self.xp.int64)
        hits = self.xp.where(self.xp.isfinite(logits).all(axis=1), hits, -batch - 1)  # never made up for
        padded = self.xp.pad(hits, ((0, 0), (0, -batch % parts)))
        counts = self.xp.maximum(padded.reshape(len(hits), -1, parts).sum(axis=1), -1)
        return counts[:, 0] if groups is None else counts

    # ---- convolution and pooling ------------------------------------------------------------------------

    # About so many values are laid out as columns at a time: 4 MiB in float32 stay in a third-level cache.
    columns_limit = 1 << 20

    def convolution(self, x: Array, w: Array, b: Array, stride: Pair, padding: Pair) -> Array:
        """Return w ∗ x + b: (P|1, C, H, W, B), (P|1, O, C, KH, KW), (P|1, O) → (P, O, H', W', B)."""
        sliding = Sliding(w.shape[3:], stride, padding)
        height, width = sliding.places(*x.shape[2:4])
        population, outputs, batch = max(x.shape[0], w.shape[0]), w.shape[1], x.shape[4]
        y = self.xp.empty((population, outputs, height, width, batch), x.dtype)
        kernels, bias = windows.flat_kernels(w), b[:, :, None, None, None]
        for block, columns in self._columns(x, sliding):
            part = y[block.members, :, block.rows, :, block.samples]
            self._product_into(part, windows.of_members(kernels, block.members), columns)
            part += windows.of_members(bias, block.members)
        return y

    def _product_into(self, part: Array, w: Array, x: Array) -> None:
        """Write the products w[p] x[p], member by member, to a part (P, O, rows, W', samples) of y."""
        part[...] = self.xp.matmul(w, x).reshape(part.shape)

    def convolution_gradients(
        self, dy: Array, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        """Return dw (P, O, C, KH, KW) and db (P, O): dy (P, O, H', W', B), x (P|1, C, H, W, B)."""
        population, outputs = dy.shape[:2]
        dw = self.xp.zeros((population, outputs, x.shape[1] * kernel[0] * kernel[1]), dy.dtype)
        for block, columns in self._columns(x, Sliding(kernel, stride, padding)):
            part = windows.part_of_output(dy, block)
            dw[block.members] += self.xp.matmul(part, columns.transpose(0, 2, 1))
        return dw.reshape(population, outputs, x.shape[1], *kernel), dy.sum(axis=(2, 3, 4))

    def convolution_input_gradient(
        self, w: Array, dy: Array, size: Pair, stride: Pair, padding: Pair
    ) -> Array:
        """Return dx of `convolution`: (P|1, O, C, KH, KW), (P, O, H', W', B) → (P, C, H, W, B)."""
        channels, kernel_h, kernel_w = w.shape[2:]
        population, _, rows, columns, batch = dy.shape
        height, width = (length + 2 * zeros for length, zeros in zip(size, padding, strict=True))
        dx = self.xp.zeros((population, channels, height, width, batch), dy.dtype)
        per_row = channels * kernel_w * columns
        for block in windows.blocks(population, rows, batch, per_row, self.columns_limit, SAMPLE_TILE):
            part, dpart = dx[block.members, ..., block.samples], windows.part_of_output(dy, block)
            for i in range(kernel_h):  # one row of the kernel at a time: its columns stay in the cache
                kernel_row = windows.of_members(windows.flat_kernels(w[:, :, :, i]), block.members)
                dcolumns = self.linear_input_gradient(kernel_row, dpart)  # (members, C·KW, rows·W'·samples)
                windows.add_columns(part, dcolumns, i, kernel_w, stride, block.rows)
        return dx[:, :, padding[0] : height - padding[0], padding[1] : width - padding[1]]

    def _columns(self, x: Array, sliding: Sliding) -> Iterator[tuple[Block, Array]]:
        """Yield the columns of x block by block; where x is shared, a block is for all members."""
        view = windows.seen(self.xp, windows.pad(self.xp, x, sliding.padding), sliding)
        members, channels, kernel_h, kernel_w, height, width, batch = view.shape
        per_row = channels * kernel_h * kernel_w * width
        for block in windows.blocks(members, height, batch, per_row, self.columns_limit, SAMPLE_TILE):
            everyone = block if members > 1 else block._replace(members=slice(None))
            yield everyone, windows.columns(view, block)

    # ---- batch norm: rows (P|1, F, N), where N runs over everything that a mean is taken over -------------

    def batch_norm(
        self, rows: Array, gamma: Array, beta: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Return y = gamma·x̂ + beta, (P, F, N), and mean, residual, variance and inverse, (P|1, F).

        x̂ = (rows − mean − residual)·inverse, inverse = 1/√(variance + epsilon), with the biased variance of
        each row; x̂ is 0 where the variance is infinite.
        """
        mean, residual, variance = self.moments(rows)
        centre, scale, shift, inverse = self.normaliser(gamma, beta, mean, residual, variance, epsilon)
        return self.normalise(rows, centre, scale, shift), mean, residual, variance, inverse

    def batch_norm_backward(
        self, drows: Array, rows: Array, gamma: Array, mean: Array, residual: Array, inverse: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx = gamma·inverse·(drows − dbeta/N − x̂·dgamma/N), (P, F, N), and dgamma, dbeta, (P, F).

        Sums are taken of differences to a value of drows, as means are: a large mean costs no digits.
        """
        drows, rows = (self.xp.ascontiguousarray(array) for array in (drows, rows))  # as in `moments`
        count, pivot = rows.shape[2], self._middle(drows)
        scaled = rows - self._centre(mean, inverse)[:, :, None]
        scaled *= inverse[:, :, None]  # x̂ + tail
        tail = residual * inverse
        dx = drows - pivot[:, :, None]
        dmean = dx.mean(axis=2)
        products = dx * scaled
        share = products.mean(axis=2) - dmean * tail  # dgamma/N: (P, F)
        self.xp.multiply(scaled, share[:, :, None], out=products)
        dx -= products
        dx -= (dmean - share * tail)[:, :, None]
        dx *= (gamma * inverse)[:, :, None]
        return dx, share * count, (pivot + dmean) * count

    def moments(self, rows: Array) -> tuple[Array, Array, Array]:
        """Return mean, its residual and the biased variance of each row, (P|1, F).

        The mean is the sum of the first two, more precise than a number of the dtype. A variance beyond the
        dtype's range is infinite.
        """
        rows = self.xp.ascontiguousarray(rows)  # sums along another axis are not taken in pairs
        mean, residual, variance = self._moments_in_range(rows)
        beyond = ~self.xp.isfinite(variance)  # the squares' sum does not fit; the variance perhaps does
        if beyond.any():
            unit = UNITS[str(rows.dtype)]
            found = self._moments_in_range(rows[beyond][None] * rows.dtype.type(unit))
            mean[beyond], residual[beyond] = found[0][0] / unit, found[1][0] / unit
            variance[beyond] = found[2][0] / unit / unit
        return mean, residual, variance

    def _moments_in_range(self, rows: Array) -> tuple[Array, Array, Array]:
        """Return `moments` where the sum of the squared deviations can be represented.

        The mean is a + mean(x − a), a the middle of three values, and corrected by the mean of what is left.
        """
        pivot = self._middle(rows)
        deviations = rows - pivot[:, :, None]
        centre = pivot + deviations.mean(axis=2)
        self.xp.subtract(rows, centre[:, :, None], out=deviations)
        shift = deviations.mean(axis=2)
        deviations *= deviations
        variance = self.xp.maximum(deviations.mean(axis=2) - shift * shift, 0)
        return *_pair(centre, shift), variance

    def _middle(self, rows: Array) -> Array:
        """Return the middle one of three values of each row: hardly ever an outlier."""
        a, b, c = rows[:, :, 0], rows[:, :, rows.shape[2] // 2], rows[:, :, -1]
        return self.xp.maximum(self.xp.minimum(a, b), self.xp.minimum(self.xp.maximum(a, b), c))

    def _centre(self, mean: Array, inverse: Array) -> Array:
        """Return the mean, or 0 where inverse is 0: x̂ is 0 then, though x − mean may be infinite."""
        return self.xp.where(inverse > 0, mean, mean - mean)

    def normaliser(
        self, gamma: Array, beta: Array, mean: Array, residual: Array, variance: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array]:
        """Return centre, scale, shift: gamma·x̂ + beta = (x − centre)·scale + shift; and inverse: (P|1, F)."""
        inverse = (variance + epsilon) ** -0.5
        scale = gamma * inverse
        return self._centre(mean, inverse), scale, beta - residual * scale, inverse

    def running_statistics(
        self, old: tuple[Array, Array, Array], new: tuple[Array, Array, Array], share: float, factor: float
    ) -> tuple[Array, Array, Array]:
        """Return mean, residual and variance, (1 − share)·old + share·new, with factor·the new variance.

        old: (P, F) each; new: (P|1, F). The mean moves by share·(new − old), and what its dtype has no digits
        for goes to the residual: so it reaches its limit. Each step is rounded to the dtype.
        """
        mean, residual, variance = old
        half = mean.dtype.type(0.5)  # a difference may be out of range, that of halves is not
        step = 2 * share * ((new[0] * half - mean * half) + (new[1] * half - residual * half))
        return *_pair(mean, residual + step), (1 - share) * variance + share * factor * new[2]

    def normalise(self, rows: Array, mean: Array, scale: Array, shift: Array) -> Array:
        """Return (rows − mean)·scale + shift; the others (P|1, F); result (P, F, N)."""
        population = max(len(array) for array in (rows, mean, scale, shift))
        y = self.xp.empty((population, *rows.shape[1:]), rows.dtype)
        self.xp.subtract(rows, mean[:, :, None], out=y)
        y *= scale[:, :, None]
        y += shift[:, :, None]
        return y

    def normalise_sums(
        self, drows: Array, rows: Array, mean: Array, residual: Array, inverse: Array
    ) -> tuple[Array, Array]:
        """Return Σ_n drows·(rows − mean − residual)·inverse and Σ_n drows, (P, F)."""
        drows, rows = (self.xp.ascontiguousarray(array) for array in (drows, rows))  # as in `moments`
        products = rows - self._centre(mean, inverse)[:, :, None]
        products *= inverse[:, :, None]
        products = products * drows
        total = drows.sum(axis=2)
        return products.sum(axis=2) - total * (residual * inverse), total


def _pair(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b as its nearest number and the exact rest (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
