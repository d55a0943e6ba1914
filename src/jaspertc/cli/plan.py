"""``jaspertc plan``: what teaching and distilling a recipe would take, before anything is rented."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.progress import write

if TYPE_CHECKING:
    from jaspertc.recipe.plan import Plan


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
    from jaspertc.errors import InputError
    from jaspertc.recipe.plan import plan as plan_of
    from jaspertc.recipe.recipe import read_recipe

    if hourly_cost is not None and not 0 <= hourly_cost < math.inf:
        raise InputError(f"--hourly-cost is {hourly_cost}, it must be a number >= 0")
    read = read_recipe(recipe)
    for count in texts or [None]:  # type: ignore[list-item]
        _print(plan_of(read, gpus=gpus, kind=kind, texts=count, tokens=tokens), hourly_cost)


def _print(planned: "Plan", hourly_cost: float | None) -> None:
    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table
    from jaspertc.reports.numbers import count, duration, number

    columns = ["", "tokens", "compressed", "compute", "time", "GiB a GPU", "GB on disk"]
    rows = [
        [
            cost.name,
            count(cost.tokens),
            count(cost.compressed),
            count(cost.flops, " FLOP"),
            duration(cost.hours),
            number(cost.gib),
            number(cost.gigabytes),
            *([] if hourly_cost is None else [number(cost.hours * hourly_cost)]),
        ]
        for cost in (*planned.teach, *planned.distil)
    ]
    columns += [] if hourly_cost is None else ["cost"]
    show(Table(title=f"{planned.texts:,} texts", columns=columns, rows=rows))
    price_note = "" if hourly_cost is None else f", {number(planned.hours * hourly_cost)} in all"
    write(f"all steps one after another: {duration(planned.hours)}{price_note}")
    for note in planned.notes:
        write(note)
