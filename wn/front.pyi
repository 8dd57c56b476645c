"""Written by `python -m tests.checks.front_stub` from the signatures of front.py."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from numpy.typing import NDArray

from wn.walking.api import Trained
from wn.walking.results import WalkResult

def walk(
    *,
    dataset: str = "fashion-mini",
    data_dir: str | PathLike[str] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    model: str = "mlp",
    batch_norm: str = "none",
    noise: str = "additive",
    where: str | int | Sequence[int | str] | Mapping[Any, float] = "each",
    phase: str = "both",
    sigma: str | float | Sequence[float] | NDArray[Any] | None = None,
    mean: float | None = None,
    mean_mul: float | None = None,
    mean_add: float | None = None,
    ratio: float | None = None,
    order: str | None = None,
    normalize_to_input_size: bool = False,
    repetitions: int = 1,
    execution: str = "single",
    distribution: str = "normal",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    clamp: bool = False,
    repeats: int = 1,
    seed: int = 0,
    backend: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    evaluation_batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **recorded: Any,
) -> WalkResult: ...
def train(
    *,
    dataset: str = "fashion-mini",
    data_dir: str | PathLike[str] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    model: str = "mlp",
    batch_norm: str = "none",
    noise: str = "none",
    where: str | int | Sequence[int | str] | Mapping[Any, float] = "global",
    sigma: float | None = None,
    mean: float | None = None,
    mean_mul: float | None = None,
    mean_add: float | None = None,
    ratio: float | None = None,
    order: str | None = None,
    normalize_to_input_size: bool = False,
    repetitions: int = 1,
    execution: str = "single",
    distribution: str = "normal",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    clamp: bool = False,
    seed: int = 0,
    backend: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **recorded: Any,
) -> Trained: ...
