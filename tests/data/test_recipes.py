"""The recipes in the code are those of the table in docs/data.md."""

from pathlib import Path

from wn.data.recipes import Recipe
from wn.data.sets.entries import ENTRIES

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def table() -> dict[str, list[str]]:
    """The rows of the table of recipes: name → cells."""
    lines = PAGE.read_text().split("## Recipes")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {name.strip("`"): cells for name, *cells in rows}


def written_as(values: tuple[float, ...], cell: str) -> str:
    """The cell if it holds these numbers, however they are written, else the numbers."""
    shown = cell.split()
    return cell if cell != "(features)" and [float(text) for text in shown] == [*values] else str(values)


def row(recipe: Recipe, cells: list[str]) -> list[str]:
    """The cells that a recipe should have, in the words of the page."""
    pre = recipe.preprocessing
    pixels = pre.scale == 255
    return [
        f"{pre.crop_padding}, {'yes' if pre.flip else 'no'}" if pre.augments else "–",
        written_as(pre.mean, cells[1]) if pixels else "(features)",
        written_as(pre.std, cells[2]) if pixels else "(features)",
        f"{recipe.epochs_mlp} / {recipe.epochs_conv}",
        str(recipe.batch_size),
        f"{recipe.lr:.0e}".replace("e-0", "e-"),
    ]


def test_the_page_has_the_recipes_of_the_code() -> None:
    written = table()
    assert set(written) == set(ENTRIES)
    for name, cells in written.items():
        same = [cell.removeprefix("as ").strip("`") for cell in cells]
        expected = [
            written[reference][column] if reference in written else cells[column]
            for column, reference in enumerate(same)
        ]
        assert row(ENTRIES[name].recipe, expected) == expected, name
