"""Damaged or unusual safetensors files: one line for each, whatever is wrong, or the very weights."""

import json
import random
import struct

import numpy as np
import pytest
from safetensors.numpy import save

from wn.basics.errors import WnError
from wn.engine import models
from wn.engine.files import checkpoint, exchange

FILES = 300
NETWORK = models.build("mlp-8", (1, 2, 3), 4, "hidden")
SPECS = checkpoint.expected_specs(NETWORK, 1)
TENSORS = {
    name: np.abs(np.random.default_rng(number).normal(size=spec.shape[1:])).astype(np.float32)
    for number, (name, spec) in enumerate(SPECS.items())
}
HUGE = [-1, 0, 1 << 31, 1 << 62, 1 << 64, 10**30, 1.5, "8", None, [1]]


def parts():
    """The header and the data of the undamaged file."""
    content = save(TENSORS)
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def bytes_changed(rng):
    header, data = parts()
    content = bytearray(joined(header, data))
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content) - len(data))] = rng.randrange(256)
    return bytes(content)


def cut_short(rng):
    content = joined(*parts())
    return content[: rng.randrange(len(content))]


def longer(rng):
    return joined(*parts()) + rng.randbytes(rng.randint(1, 64))


def header_length(rng):
    return joined(*parts(), length=rng.choice([0, 1, 7, 1 << 20, 1 << 40, (1 << 64) - 1]))


def shape_changed(rng):
    header, data = parts()
    shape = header[rng.choice(sorted(header))]["shape"]
    shape[rng.randrange(len(shape))] = rng.choice(HUGE)
    return joined(header, data)


def type_changed(rng):
    header, data = parts()
    kinds = ["F16", "BF16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "", "float32", 3, None]
    header[rng.choice(sorted(header))]["dtype"] = rng.choice(kinds)
    return joined(header, data)


def half_precision(rng):
    kind = rng.choice(["F16", "BF16"])
    return _of_kind(kind, sorted(TENSORS) if rng.random() < 0.5 else [rng.choice(sorted(TENSORS))])


def _of_kind(kind, names):
    """Some tensors in half precision, in a file that is whole."""
    header, content = {}, b""
    for name, tensor in TENSORS.items():
        new = tensor.astype(np.float16) if name in names else tensor
        ends = [len(content), len(content) + new.nbytes]
        header[name] = {
            "dtype": kind if name in names else "F32",
            "shape": list(new.shape),
            "data_offsets": ends,
        }
        content += new.tobytes()
    return joined(header, content)


def offsets_changed(rng):
    header, data = parts()
    entry = header[rng.choice(sorted(header))]
    ends = entry["data_offsets"]
    ends[rng.randrange(2)] = rng.choice([*HUGE, ends[0] + 4, ends[1] - 4])
    return joined(header, data)


def names_changed(rng):
    tensors = dict(TENSORS)
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    if rng.random() < 0.7:
        tensors[rng.choice(["", "nothing", name + "\n", "module." + name, name.upper(), "σ" * 50])] = tensor
    return save(tensors)


def numbers_changed(rng):
    tensors = {name: tensor.copy() for name, tensor in TENSORS.items()}
    name = rng.choice(sorted(tensors))
    bad = [np.nan, np.inf, -np.inf] if not name.endswith("running_var") else [np.nan, -1.0]
    tensors[name].reshape(-1)[rng.randrange(tensors[name].size)] = rng.choice(bad)
    return save(tensors)


def turned(rng):
    oblong = [name for name, x in TENSORS.items() if x.ndim == 2 and x.shape[0] != x.shape[1]]
    name = rng.choice(oblong)
    tensors = TENSORS | {name: np.ascontiguousarray(TENSORS[name].T)}
    return save(tensors)


def other_json(rng):
    header, data = parts()
    texts = [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[" * 10_000,
        b'{"a": 1}',
        json.dumps(header).encode()[:-1],
        b"\xff\xfe",
    ]
    return joined(rng.choice(texts), data)


DAMAGES = (
    bytes_changed, cut_short, longer, header_length, shape_changed, type_changed, half_precision,
    offsets_changed, names_changed, numbers_changed, turned, other_json,
)  # fmt: skip
ALWAYS = set(DAMAGES) - {
    bytes_changed,
    shape_changed,
    offsets_changed,
    type_changed,
}  # no choice leaves it whole


def outcome(path):
    """The population of a file, or the line that refuses it."""
    try:
        return exchange.import_into([path], NETWORK)[1]
    except WnError as error:
        return str(error)


def same(population):
    found = checkpoint.named(NETWORK, population)
    return all(np.array_equal(found[name][0], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_one_line_or_the_very_weights(damage, tmp_path):
    path, refused, count = tmp_path / "net.safetensors", 0, FILES // len(DAMAGES)
    for seed in range(count):
        path.write_bytes(damage(random.Random(f"{damage.__name__} {seed}")))
        found = outcome(path)
        if isinstance(found, str):
            refused += 1
            assert "\n" not in found
            assert found.startswith(str(path))
        else:
            assert same(found)
    assert refused >= (count if damage in ALWAYS else count // 2)


def test_the_undamaged_file_is_read(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(joined(*parts()))
    assert same(exchange.import_into([path], NETWORK)[1])
