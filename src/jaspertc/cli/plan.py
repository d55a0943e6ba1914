"""``jaspertc plan``: what teaching and distilling a recipe would take, before anything is rented."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jaspertc.recipe.costs import Costs


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as one of recipes/.")],
    gpus: Annotated[int, typer.Option(min=1, help="How many devices work together.")] = 1,
    kind: Annotated[
        str, typer.Option(help="a100, h100, h200, l4, l40s, rtx4090; here: this machine.")
    ] = "here",
    texts: Annotated[
        list[int] | None, typer.Option(min=1, help="How many texts; several give a table each.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Mean tokens of a text.")] = None,
    hourly_cost: Annotated[
        float | None, typer.Option(metavar="PRICE", help="Of all devices together; adds a column.")
    ] = None,
) -> None:
    """Reckon tokens, FLOPs, memory, hours and storage of `teach` and `distil`.

    Nothing is computed or fetched; the files of the recipe need not be there. Hours hold where devices are
    kept busy: see docs/scale.md for where the numbers are from.
    """
    from jaspertc.recipe.costs import plan_costs
    from jaspertc.recipe.recipe import read_recipe

    read = read_recipe(recipe)
    for count in texts or [None]:  # type: ignore[list-item]
        _print(plan_costs(read, gpus=gpus, kind=kind, texts=count, tokens=tokens), hourly_cost)


def _print(costs: "Costs", hourly_cost: float | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{costs.texts:,} texts")
    headings = ["", "tokens", "compressed", "PFLOP", "hours", "GiB a GPU", "GB on disk"]
    for heading in [*headings, *(["cost"] if hourly_cost is not None else [])]:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)

    def row(name: str, *numbers: float) -> None:
        table.add_row(name, *("" if number is None else f"{number:,.3g}" for number in numbers))

    for cost in (*costs.teach, *costs.distil):
        price = [] if hourly_cost is None else [cost.hours * hourly_cost]
        numbers = (cost.tokens, cost.compressed, cost.flops / 1e15, cost.hours, cost.gib, cost.gigabytes)
        row(cost.name, *numbers, *price)
    Console().print(table)
    price_note = "" if hourly_cost is None else f", {costs.hours * hourly_cost:,.3g} in all"
    typer.echo(f"all steps one after another: {costs.hours:,.3g} hours{price_note}")
    for note in costs.notes:
        typer.echo(note)
