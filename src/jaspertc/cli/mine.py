"""``jaspertc mine``: hard negatives for the pairs of a recipe, ranked by a teacher's cached vectors."""

from pathlib import Path
from typing import Annotated

import typer

from jaspertc.cli.progress import say


def mine(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file with a [mining] table.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Find hard negatives for the pairs of a recipe.

    The positives of all pairs are ranked for each query by the vectors that `jaspertc teach RECIPE` has
    kept. Answers of the query and documents that score nearly as high as its positive are dropped; the
    next ones are written, one line a pair. The output appears whole or not at all.
    """
    import time

    from jaspertc.cli.progress import progress
    from jaspertc.recipe.recipe import read_recipe
    from jaspertc.teaching.mining import PairMiner

    read = read_recipe(recipe)
    miner = PairMiner(read, overwrite=overwrite, say=say)
    settings = miner.settings
    started = time.monotonic()
    with progress("mining", miner.total, percent=True) as advance:
        summary = miner.run(advance)
    say(
        f"{summary.pairs} pairs, {summary.documents} documents, {summary.negatives} negatives in "
        f"{time.monotonic() - started:.1f} s: {settings.output}"
    )
    say(
        f"{summary.fewer} pairs have fewer than {settings.negatives} ({summary.without} have none); "
        f"{summary.false_negatives} documents scored above {settings.ceiling:g} of the positive and were "
        f"dropped; {summary.answered} positives come first of all"
    )
