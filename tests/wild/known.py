"""What examination by hand has found of the cases that do not pass: library → case → verdict and reason.

"wrong": the library's gradient is (docs/bugs-in-the-wild.md); "raised": the library gives none; "kink" and
"undecided": there is no derivative, or differences cannot tell.
"""

SINC = "digits cancel: near 0, (πx cos πx − sin πx)/πx² keeps few"
WIDE = "values of y from 1e-9 to 1e8 along one direction; each element by itself passes"
TWICE = "an operand that is used twice is taken for the first one both times"
REPEATED = "the gradients of a repeated index are not added up"
NO_RULE = "not supported by the library, which says so"

KNOWN: dict[str, dict[str, tuple[str, str]]] = {
    "autograd": {
        "sinc, small": ("wrong", SINC),
        "sinc, with zero": ("wrong", "nan at 0, where it is 0"),
        "exp, steep": ("undecided", WIDE),
        "where": ("wrong", "broadcast operands get a gradient of the shape of the result"),
        "prod with zeros": ("wrong", "nan where an element is zero: prod(x)/x"),
        "gradient, both": ("raised", "ValueError of the backward pass"),
        "repeat, counts": ("raised", "TypeError of the backward pass: one count is expected"),
        "broadcast_to": ("raised", "AssertionError of the backward pass: leading axes are not handled"),
        **dict.fromkeys(("einsum ii->i", "einsum ii"), ("raised", "ValueError of the backward pass")),
        "linalg.det, singular": ("raised", "LinAlgError of the backward pass: det(x)·x⁻¹"),
        **dict.fromkeys(
            (
                "fmod",
                "diagonal",
                "pad, reflect",
                "sort along 0",
                "sort along 1",
                "linalg.norm along 1, 1",
                "linalg.norm along 1, 0.5",
                "fft.irfft, n=7",
                "t.cdf of x, loc, scale",
                "t.logcdf of x, loc, scale",
            ),
            ("raised", NO_RULE),
        ),
    },
    "mygrad": {
        "sinc, small": ("wrong", SINC),
        "softmax, steep": ("undecided", "slopes of 1e-13 in an output near 1, whose rounding hides them"),
    },
    "numpy-ml": {
        "Exponential, steep": ("undecided", WIDE),
        "WGAN_GPLoss of the critic": ("wrong", "the signs of two gradients are reversed"),
        "Softmax along 0": ("wrong", "backward ignores dim"),
        "Embedding, sum, a repeated token": ("wrong", REPEATED),
        "Embedding, mean, a repeated token": ("wrong", REPEATED),
        "Pool2D, max, stride 2, pad 1": (
            "raised",
            "backward looks for the maximum in the input without padding",
        ),
        "Pool2D, max, stride 1, pad same": (
            "wrong",
            "backward looks for the maximum in the input without padding",
        ),
    },
    "pydynet": {
        "abs": ("raised", "TypeError of the backward pass: np.sign of a Tensor"),
        "minimum": ("wrong", "0 everywhere: an array is compared with a Tensor"),
        "minimum, column": ("wrong", "0 everywhere: an array is compared with a Tensor"),
        "x**2 at 0": ("wrong", "nan at 0: y·n/x"),
        "x**3 at 0": ("wrong", "nan at 0: y·n/x"),
        **dict.fromkeys(
            ("x - x", "x / x", "x ** x", "matmul of itself", "concat, twice the same"), ("wrong", TWICE)
        ),
        **dict.fromkeys(
            ("index, repeated", "index, both, repeated", "F.embedding, a repeated token"), ("wrong", REPEATED)
        ),
        "matmul, vector and stack": ("raised", "ValueError of the backward pass"),
        **dict.fromkeys(
            ("F.conv1d, stride 1, padding 0", "F.conv1d, stride 2, padding 1", "Conv1d"),
            ("raised", "ValueError of the forward pass unless sizes happen to fit"),
        ),
    },
    "npnn": {
        "Flatten 2×5": ("raised", "IndexError of the backward pass: i // m for i // n"),
        "Flatten 5×2": ("wrong", "i // m for i // n"),
    },
    "jax": {
        "special.i0, with zero": ("wrong", "1 at 0, where it is 0"),
        "linalg.det, rank 2 of 4": (
            "undecided",
            "y is 0 and stays 0 along every element: nothing to compare",
        ),
        "nn.dot_product_attention": ("undecided", "softmax is computed in float32, as its source says"),
        **dict.fromkeys(
            (
                "special.betainc",
                "at multiply, repeated",
                "segment_prod",
                "scipy.linalg.sqrtm",
                "linalg.householder_product",
            ),
            ("raised", NO_RULE),
        ),
    },
    "torch": {
        "sinc, small": ("wrong", SINC),
        "special.i0e, with zero": ("kink", "e^−|x| I₀(x) at 0"),
        "special.erfcx, steep": ("undecided", "values of y from 0.03 to 1e174 along one direction"),
        "F.hardsigmoid, real": ("wrong", "the slope is 1/6 in float32"),
        "F.hardsigmoid, steep": ("wrong", "the slope is 1/6 in float32"),
        "F.softplus, steep": ("kink", "x = 20 is the documented threshold, where y steps by 2e-9"),
        "F.hardswish, steep": ("kink", "at x = −3"),
        "linalg.det, rank 3 of 4": ("undecided", "y is 0 but for the rounding of terms of 1e3"),
        "linalg.det, rank 2 of 4": ("undecided", "y is 0 but for the rounding of terms of 1e3"),
        "cholesky_inverse": ("wrong", "elements that are never read have a gradient"),
        "cholesky_solve": ("wrong", "elements that are never read have a gradient"),
        "F.ctc_loss of log-probabilities": ("wrong", "the gradient of what goes into log_softmax"),
    },
}
