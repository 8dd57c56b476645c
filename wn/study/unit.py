"""The unit of a study: everything that one measured accuracy depends on, and the key made of it."""

from hashlib import sha256

import msgspec
from msgspec import UNSET, UnsetType

from wn.engine import noise as noises
from wn.engine.noise import FloatOrMembers, SiteNoise
from wn.engine.noise_spec import NoiseSpec
from wn.walking.places import Spread

# Part of every key. To be raised when the same unit gives other numbers than before: other draws, another
# initialisation or order of samples, another preprocessing or recipe of a data set, other arithmetic.
NUMERICS = 2

CLEAN = "clean"  # the phase of a training without noise
MATRIX = "matrix"  # the phase of networks trained under one σ and evaluated under others
BINARISATION = "binarisation"
OBSERVABLES = (BINARISATION,)


class OwnData(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit has to know of data of the user's own, beside their digest: no catalogue says it."""

    image_shape: tuple[int, ...]
    classes: int
    train_samples: int
    test_samples: int
    chance: float  # of the test samples that are evaluated


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A network that was trained before: digest of its file, type of its numbers, description in JSON."""

    sha256: str
    dtype: str
    description: str


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One measured accuracy: which network, trained how, under which noise, where and how strong.

    A "clean" unit is a training without noise; an "inference" unit evaluates the clean network under noise, a
    "training" unit trains and evaluates a network of its own under it; a "matrix" unit evaluates under σ a
    network that was trained under `sigma_train`, which only such units have. Nothing is left open for a
    recipe to decide. `site` is numbered as in results (−1 global, −2 mapped; −3 for clean units), `factors`
    are the noisy sites in order with the factor on σ at each. What is added here has UNSET as default, which
    leaves the keys of finished units as they are.
    """

    phase: str
    dataset: str
    data_checksum: str
    train_limit: int | None = None
    test_limit: int | None = None
    model: str
    batch_norm: str
    dtype: str
    epochs: int
    batch_size: int
    learning_rate: float
    clamp_weights: bool
    class_weights: tuple[float, ...] | None = None
    seed: int
    repeat: int
    noise: NoiseSpec | None = None
    site: int = Spread.NOWHERE
    site_name: str = CLEAN
    factors: tuple[tuple[int, float], ...] = ()
    sigma: float = 0.0
    observe: tuple[str, ...] | UnsetType = UNSET  # quantities besides those of every unit
    own: OwnData | UnsetType = UNSET  # of a data set that is no name of the catalogue
    weights: Weights | UnsetType = UNSET  # of a network on disk, which is not trained: epochs is 0
    sigma_train: float | UnsetType = UNSET  # of the network's training, where σ is that at inference alone

    @property
    def key(self) -> str:
        """The identity of the result: SHA-256, in hexadecimal, of NUMERICS and all but the site's name."""
        content = msgspec.json.encode((NUMERICS, msgspec.structs.replace(self, site_name="")))
        return sha256(content).hexdigest()

    @property
    def clean(self) -> "Unit":
        """The unit of the same network trained without noise: the same for all noise, places and σ."""
        return msgspec.structs.replace(
            self,
            phase=CLEAN,
            noise=None,
            site=Spread.NOWHERE,
            site_name=CLEAN,
            factors=(),
            sigma=0.0,
            sigma_train=UNSET,
        )

    @property
    def clean_key(self) -> str | None:
        """The key of the clean unit, None for a clean unit itself."""
        return None if self.phase == CLEAN else self.clean.key

    def site_noise(self, sigma: FloatOrMembers | None = None) -> SiteNoise:
        """Return the operator of each noisy site.

        `sigma`, one per member (P,), replaces the unit's own: for units that differ in nothing else and are
        computed side by side.
        """
        if self.noise is None:
            return {}
        operator = noises.of_spec(self.noise, self.sigma if sigma is None else sigma)
        at_sites = noises.mapped(operator, dict(self.factors))
        repetitions = self.noise.repetitions
        return at_sites if isinstance(repetitions, int) else noises.repeated(at_sites, repetitions)
