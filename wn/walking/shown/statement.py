"""A paragraph on reproducibility for a paper, made of a run's record, and of nothing else."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from wn.basics.installed import DISTRIBUTION
from wn.walking.grids import sigma_grid

_WORK = {
    "walk": "Accuracy under noise and midpoint noise levels were measured",
    "evaluate": "Accuracy under noise was measured",
    "train": "A network was trained and its accuracy measured",
    "gains": "The gains of noise sites were computed",
    "predict": "Accuracy under noise was predicted",
}
_NAMES = {"python": "Python", "numpy": "NumPy", "scipy": "SciPy"}


def statement(run: Mapping[str, Any]) -> str:
    """What was run on what, from which seeds, and what the same numbers need; a paragraph.

    run: the record of a result, as run.json has it.
    """
    sentences = [_work(run), _data(run), _network(run), _noise(run), _draws(run), _same(run)]
    return " ".join(sentence for sentence in sentences if sentence)


def _work(run: Mapping[str, Any]) -> str:
    versions = run["versions"]
    others = [f"{_NAMES.get(name, name)} {at}" for name, at in versions.items() if name != DISTRIBUTION]
    machine = run["machine"]["platform"]
    return (
        f"{_WORK[run['command']]} with wn {versions[DISTRIBUTION]} (distribution {DISTRIBUTION}, backend "
        f"{run['backend']}, {run['settings']['dtype']}; {', '.join(others)}; {machine})."
    )


def _data(run: Mapping[str, Any]) -> str:
    data = run["data"]
    samples = data["samples"]
    counts = f"{samples['train']:,} training and " if "train" in samples else ""
    read = ""
    if "scale" in data:
        read = f", read as (x/{data['scale']:g} − {_numbers(data['mean'])})/{_numbers(data['std'])}"
    chance = f"; chance is {run['chance']:.4g}" if "chance" in run else ""
    return (
        f"Data: {data['name']}, {counts}{samples['test']:,} test samples{read} "
        f"(SHA-256 of samples and labels {data['sha256']}){chance}."
    )


def _network(run: Mapping[str, Any]) -> str:
    settings, saved = run["settings"], run.get("network")
    kind = settings["batch_norm"]
    norm = "" if kind == "none" else f" with batch norm ({kind})"
    if saved is not None:
        return f"Network: {settings['model']}{norm}, trained before (SHA-256 {saved['sha256']})."
    if "architecture" in settings:
        text = msgspec.json.encode(settings["architecture"], order="sorted")
        norm += f" (SHA-256 of its description {sha256(text).hexdigest()})"
    clamped = ", weights clamped to [−1, 1]" if settings["clamp_weights"] else ""
    return (
        f"Network: {settings['model']}{norm}, trained by Adam (learning rate {settings['learning_rate']:g}, "
        f"cosine annealing) for {_count(settings['epochs'], 'epoch')}, batch size {settings['batch_size']}"
        f"{clamped}."
    )


def _noise(run: Mapping[str, Any]) -> str:
    settings = run["settings"]
    if settings.get("noise", "none") == "none" or run["command"] == "gains":
        return ""
    sigma = settings["sigma"]
    grid = "the default grid of σ" if sigma is None else _grid(sigma_grid(sigma).tolist())
    place = settings["where"]
    sites = f"at {place}"
    if isinstance(place, list):
        sites = f"at site{'' if len(place) == 1 else 's'} {', '.join(map(str, place))}"
    where = {"each": "at one site after the other", "global": "at all sites at once"}.get(str(place), sites)
    several = settings["repetitions"]
    executed = "" if several == 1 else f", repetitions {several}"
    phase = f", phase {settings['phase']}" if "phase" in settings else ""
    return f"Noise: {settings['noise']}, {grid}, {where}{executed}{phase}."


def _grid(sigma: list[float]) -> str:
    return f"σ {sigma[0]:g}" if len(sigma) == 1 else f"{len(sigma)} σ from {min(sigma):g} to {max(sigma):g}"


def _draws(run: Mapping[str, Any]) -> str:
    settings = run["settings"]
    seeds = f"base seed {settings['seed']}"
    if "repeats" in settings:
        seeds += f", {_count(settings['repeats'], 'repeat')}"
    return (
        f"All randomness is of Philox4x32-10 counters ({seeds}): a draw depends on the seed, the sample, the "
        "feature, the site and the epoch or evaluation, not on batches or threads."
    )


def _same(run: Mapping[str, Any]) -> str:
    on_gpu = run["backend"].startswith("cupy")
    machine = "GPU of this kind with as much memory free" if on_gpu else "processor of this kind"
    call = f'wn.{run["command"]}(**run["asked"])'
    return f"With these versions, data and files, on a {machine}, {call} gives the same numbers bit for bit."


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _numbers(values: Any) -> str:
    values = list(values)
    return f"{values[0]:g}" if len(values) == 1 else f"({', '.join(f'{value:g}' for value in values)})"
