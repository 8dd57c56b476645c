"""Preprocessing and training of each data set: the recipes of the study, as plain data."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer

_NUMBER = (int, float, np.integer, np.floating)


@dataclass(frozen=True)
class Preprocessing:
    """The map from a stored image to a network input: ((crop, flip)(x) / scale − mean) / std.

    `scale` divides the stored values (255 for bytes); `mean` and `std` hold one value per channel, in units
    of the scaled image, or one for all channels. `crop_padding` (pixels of zeros on each side, from which a
    window of the original size is cut) and `flip` (left-right, with probability 1/2) act in training only.
    Raises WnError for values that make no sense. Source: the recipes in docs/data.md.
    """

    scale: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop_padding: int = 0
    flip: bool = False
    recordable: ClassVar[bool] = True  # as layers have it, see `wn.engine.layers.base`

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _per_channel(name, getattr(self, name)))
        if not isinstance(self.scale, _NUMBER) or not 0 < self.scale < math.inf:
            raise WnError(f"preprocessing: scale must be above 0 and finite, not {self.scale!r}")
        if len(self.mean) != len(self.std) or not self.mean:
            raise WnError(f"preprocessing: {len(self.mean)} means and {len(self.std)} standard deviations")
        if not all(math.isfinite(value) for value in self.mean):
            raise WnError(f"preprocessing: every mean must be finite, not {self.mean}")
        if not all(0 < value < math.inf for value in self.std):
            raise WnError(f"preprocessing: every std must be above 0 and finite, not {self.std}")
        if not is_integer(self.crop_padding) or self.crop_padding < 0:
            raise WnError(
                f"preprocessing: crop_padding must be a whole number of 0 or more, not {self.crop_padding!r}"
            )
        object.__setattr__(self, "crop_padding", int(self.crop_padding))
        if not isinstance(self.flip, bool):
            raise WnError(f"preprocessing: flip must be True or False, not {self.flip!r}")

    @property
    def augments(self) -> bool:
        """Whether training images are changed at random."""
        return self.flip or self.crop_padding > 0


def _per_channel(name: str, values: Any) -> tuple[float, ...]:
    """The numbers of a list, tuple or array of one axis as a tuple; WnError for all else."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if not isinstance(values, list | tuple) or not all(isinstance(value, _NUMBER) for value in values):
        raise WnError(f"preprocessing: {name} must be a tuple of numbers, one per channel, not {values!r}")
    return tuple(map(float, values))


@dataclass(frozen=True)
class Recipe:
    """Training in the study: epochs for MLPs and for convolutional networks, batch size, Adam's lr.

    `weighted_loss` asks for the class weights of `data.sets.speech.class_weights`; otherwise all weigh alike.
    """

    epochs_mlp: int
    epochs_conv: int
    batch_size: int
    lr: float
    preprocessing: Preprocessing
    weighted_loss: bool = False


MNIST = Recipe(epochs_mlp=100, epochs_conv=50, batch_size=128, lr=1e-3, preprocessing=Preprocessing())

FASHION_MNIST = Recipe(
    epochs_mlp=250,
    epochs_conv=200,
    batch_size=128,
    lr=1e-3,
    preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop_padding=4, flip=True),
)

# CIFAR-10's recipe is SVHN's as well, with the flip and the statistics of CIFAR-10.
_COLOURS = Preprocessing(
    mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010), crop_padding=4, flip=True
)
CIFAR10 = Recipe(epochs_mlp=200, epochs_conv=300, batch_size=128, lr=1e-3, preprocessing=_COLOURS)
SVHN = Recipe(epochs_mlp=300, epochs_conv=200, batch_size=128, lr=1e-3, preprocessing=_COLOURS)

SPEECH_COMMANDS = Recipe(
    epochs_mlp=150,
    epochs_conv=150,
    batch_size=512,
    lr=5e-4,
    preprocessing=Preprocessing(scale=1.0),  # the features go in as they are
    weighted_loss=True,
)

# A sixth of FashionMNIST for short runs: without augmentation, so that few epochs are enough.
FASHION_MINI = Recipe(
    epochs_mlp=8,
    epochs_conv=8,
    batch_size=128,
    lr=1e-3,
    preprocessing=Preprocessing(mean=(0.5,), std=(0.5,)),
)
