"""Names of layers that people know their networks by, from those of nodes and parameters in ONNX files."""

import re
from collections.abc import Container, Sequence

from wn.engine.files.onnx.graph import Step
from wn.engine.graph.edges import INPUT

_PARAMETER = re.compile(r"^(?P<layer>.+)\.(weight|w|kernel|gamma|scale)$")
_FORBIDDEN = re.compile(r"[\s,:*?\[\]/]+")  # they mean something where sites are named

PREFIXES = {
    "Conv": "conv", "Gemm": "fc", "MatMul": "fc", "BatchNormalization": "bn", "Relu": "relu",
    "MaxPool": "pool", "AveragePool": "avgpool", "GlobalAveragePool": "avgpool", "GlobalMaxPool": "maxpool",
    "ReduceMean": "avgpool", "Add": "add", "Sum": "add", "Concat": "concat", "Flatten": "flatten",
    "Reshape": "flatten", "Pad": "padding", "LeakyRelu": "leaky", "Clip": "clip",
}  # fmt: skip


def of_parameter(name: str) -> str:
    """The layer of a parameter: "layer1.0.conv1" of "layer1.0.conv1.weight"; "" if it does not say."""
    found = _PARAMETER.match(name)
    return "" if found is None or "::" in name else clean(found["layer"])


def path_of(step: Step) -> str:
    """The module that a node is of, if its name is a path as PyTorch's exporter writes it; "" if it is not.

    "/layer1/layer1.0/conv1/Conv" is of "layer1.0.conv1": a part that begins with the one before goes on with
    it.
    """
    parts = step.name.strip("/").split("/")
    if not step.name.startswith("/") or len(parts) < 2:
        return ""
    path, before = "", ""
    for part in parts[:-1]:
        continued = before and part.startswith(f"{before}.")
        path = path.removesuffix(before) + part if continued else f"{path}.{part}" if path else part
        before = part
    return path


# Nodes that compute shapes and constants, not what a module computes.
BESIDE = {"Constant", "ConstantOfShape", "Cast", "CastLike", "Shape", "Gather", "Unsqueeze", "Slice"}


class Modules:
    """The modules that nodes are of, by their names."""

    def __init__(self, steps: Sequence[Step], ours: bool) -> None:
        self.ours = ours  # whether wn has written the file: nodes are called as layers are
        self.steps: dict[str, list[Step]] = {}
        for step in steps:
            if step.op not in BESIDE:
                self.steps.setdefault(path_of(step), []).append(step)

    def name(self, steps: Sequence[Step], kind: str) -> str:
        """The name of a layer that nodes are: their module's, with the kind behind it if it has others too.

        "" where the names of nodes tell of no module, or of several.
        """
        if self.ours:
            return steps[-1].name
        paths = {path_of(step) for step in steps}
        path = paths.pop()
        if paths or not path:
            return ""
        inside = any(other.startswith(f"{path}.") for other in self.steps)
        others = {step.op for step in self.steps.get(path, ())} - {step.op for step in steps}
        return clean(f"{path}.{kind}" if inside or others else path)


def clean(name: str) -> str:
    """A name without signs that mean something where sites are named."""
    return _FORBIDDEN.sub("_", name).strip("_.") or "layer"


class Names:
    """Names that are all different; those of layers that have none are counted by kind."""

    def __init__(self) -> None:
        self.taken: set[str] = {INPUT}
        self.counts: dict[str, int] = {}

    def new(self, wanted: str, kind: str) -> str:
        """The name that is wanted, with a number behind it if it is taken; without one the next of a kind."""
        if wanted:
            name, number = wanted, 2
            while name in self.taken:
                name, number = f"{wanted}_{number}", number + 1
        else:
            name = self._counted(kind, self.taken)
        self.taken.add(name)
        return name

    def _counted(self, kind: str, taken: Container[str]) -> str:
        while True:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            if (name := f"{kind}{self.counts[kind]}") not in taken:
                return name
