"""How a network on disk was trained: what its file's record says, whoever wrote it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.data.sets.entries import entry_of

NOT_SAID = "its file does not say"


class Origin(NamedTuple):
    """The training of a network on disk; None where its record does not say.

    `images` is the number of training images, `noise` the kind that it was trained under, "none" for none,
    and `place` that noise in words.
    """

    dataset: str | None = None
    images: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    clamped: bool | None = None
    noise: str | None = None
    place: str = ""

    @property
    def rows(self) -> dict[str, str]:
        """The training in words, by what they are about."""
        images = f"{self.images:,} images of {self.dataset}" if self.images is not None else self.dataset
        return {
            "trained on": images or NOT_SAID,
            "trained with": ", ".join(self._settings()) or NOT_SAID,
            "trained under": self._noise(),
        }

    def _settings(self) -> list[str]:
        said = [] if self.epochs is None else [f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"]
        said += [] if self.batch_size is None else [f"batch size {self.batch_size}"]
        said += [] if self.learning_rate is None else [f"learning rate {self.learning_rate:g}"]
        return said + (["weights clamped to [−1, 1]"] if self.clamped else [])

    def _noise(self) -> str:
        if self.noise is None:
            return NOT_SAID
        return "no noise" if self.noise == "none" else f"{self.noise} noise, {self.place}"


def origin_of(record: Any) -> Origin:
    """The training that a record tells of: that of `wn train`, or of a study's clean network."""
    record = record if isinstance(record, Mapping) else {}
    unit, settings = (record.get(name) for name in ("unit", "settings"))
    if isinstance(unit, Mapping):
        return _of_unit(unit)
    if record.get("command") != "train" or not isinstance(settings, Mapping):
        return Origin()  # imported, say
    data = record.get("data")
    data = data if isinstance(data, Mapping) else {}
    samples = data.get("samples")
    where = settings.get("where")
    factors = settings.get("factors")
    return Origin(
        dataset=_text(data.get("name")),
        images=_whole(samples.get("train")) if isinstance(samples, Mapping) else None,
        **_of_training(settings),
        noise=_text(settings.get("noise")),
        place=f"σ {settings.get('sigma')}, {_place(where, factors)}",
    )


def _of_unit(unit: Mapping[str, Any]) -> Origin:
    """Of a unit of a study: its network is the clean one."""
    dataset, images = _text(unit.get("dataset")), _whole(unit.get("train_limit"))
    if images is None and dataset is not None:
        try:
            images = entry_of(dataset).train_count
        except WnError:  # of a catalogue that had it
            images = None
    return Origin(dataset=dataset, images=images, **_of_training(unit), noise="none")


def _of_training(settings: Mapping[str, Any]) -> dict[str, Any]:
    rate, clamped = settings.get("learning_rate"), settings.get("clamp_weights")
    return {
        "epochs": _whole(settings.get("epochs")),
        "batch_size": _whole(settings.get("batch_size")),
        "learning_rate": rate if isinstance(rate, int | float) else None,
        "clamped": clamped if isinstance(clamped, bool) else None,
    }


def _place(where: Any, factors: Any) -> str:
    if isinstance(factors, Mapping):
        return "at sites " + ", ".join(f"{site} (σ × {factor})" for site, factor in factors.items())
    if isinstance(where, list):
        return f"at site{'s' if len(where) > 1 else ''} {', '.join(map(str, where))}"
    return "at all sites" if where == "global" else f"at {where}"


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
