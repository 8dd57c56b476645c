"""What is measured: a network, with the data and settings of its training and evaluation."""

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from wn.basics.groups import group_sizes
from wn.data.dataset import Dataset
from wn.engine.network import Network
from wn.engine.training import EVALUATION_BATCH, TrainSettings


class Setup(NamedTuple):
    """A network, the data and settings of its training, and the batch size of its evaluation."""

    network: Network
    dataset: Dataset
    train: TrainSettings
    dtype: DTypeLike = np.float32
    evaluation_batch: int = EVALUATION_BATCH

    @property
    def groups(self) -> int:
        """Groups of test images, G."""
        return len(group_sizes(len(self.dataset.test)))
