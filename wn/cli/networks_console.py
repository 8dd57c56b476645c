"""Networks as tables in a terminal."""

from rich.console import Console
from rich.text import Text

from wn.cli.plain import PlainTable
from wn.engine import backends
from wn.engine.graph.edges import INPUT
from wn.engine.models import parameter_count
from wn.engine.network import Network
from wn.engine.networks.cost import multiplications
from wn.engine.networks.description import settings_of
from wn.engine.optim import arrays


def print_network(console: Console, network: Network) -> None:
    """Print the layers of a network in order: shapes, parameters, multiplications, site and inputs."""
    table = PlainTable(
        title=f"{network.name}: input {_shape(network.input_shape)}, {network.classes} classes"
    )
    table.add_numbers("site")
    for heading in ("name", "layer", "output"):
        table.add_column(heading)
    table.add_numbers("parameters", "MACs")
    table.add_column("takes")
    params, _ = network.template(backends.get("numpy"))
    costs = multiplications(network)
    site_of = {name: str(site) for site, name in enumerate(network.site_names)}
    table.add_row("0", INPUT, "", _shape(network.input_shape), "", "", "")
    names = [INPUT, *(node.name for node in network.nodes)]
    rows = zip(network.placed, params, costs, network.edges.sources, strict=True)
    for index, (place, tree, cost, sources) in enumerate(rows):
        size = sum(array.size for array in arrays((tree,)))
        takes = "" if sources == (index,) else ", ".join(names[source] for source in sources)
        table.add_row(
            site_of.get(place.name, ""),
            place.name,
            _layer(place.layer),
            _shape(place.output_shape),
            f"{size:,}" if size else "",
            f"{cost:,}" if cost else "",
            takes,
        )
    console.print(table)
    console.print(
        Text(
            f"{parameter_count(network):,} parameters, {sum(costs):,} multiply-accumulates for one input, "
            f"{len(network.site_names)} noise sites"
        )
    )


def _layer(layer: object) -> str:
    """A layer with the settings that are not the usual ones."""
    settings = ", ".join(f"{name} {_value(value)}" for name, value in settings_of(layer).items())
    return f"{type(layer).__name__}: {settings}" if settings else type(layer).__name__


def _value(value: object) -> str:
    if isinstance(value, list):
        return "×".join(map(_value, value)) if all(isinstance(part, int) for part in value) else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
