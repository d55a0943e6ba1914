"""Models on the validation sets of a recipe, as users call them: what a choice between models is made by.

python -m lab.experiments.validation RECIPE mini FOLDER --ratio 1 --ratio 0.33 --dims 384 --dims 128
"""

import argparse
from itertools import product

import numpy as np

from jaspertc import Embedder
from jaspertc.recipe.recipe import read_recipe
from jaspertc.reports.origin import processor
from jaspertc.teaching.measures import cosines, retrieval_scores, spearman
from jaspertc.teaching.validation import PairSet, RetrievalSet, read_validation


def pair_score(model: Embedder, pairs: PairSet, ratio: float, dims: int) -> float:
    first, second = (
        np.asarray(model.encode(side, prompt_name=pairs.role, ratio=ratio))[:, :dims]
        for side in (pairs.first, pairs.second)
    )
    return spearman(cosines(first, second), pairs.scores)


def retrieval_score(model: Embedder, item: RetrievalSet, ratio: float, dims: int) -> float:
    """nDCG@10; queries are not compressed."""
    queries = np.asarray(model.encode(item.queries, prompt_name=item.query_role, ratio=1.0))
    documents = np.asarray(model.encode(item.documents, prompt_name=item.document_role, ratio=ratio))
    return retrieval_scores(queries[:, :dims], documents[:, :dims], item.relevant)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", help="whose [validation] is read")
    parser.add_argument("models", nargs="+", help="mini, or checkpoint folders")
    parser.add_argument("--ratio", type=float, action="append")
    parser.add_argument("--dims", type=int, action="append", help="of the first so many values; default: all")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    assert recipe.validation is not None, "the recipe has no [validation]"
    pairs, retrieval = read_validation(recipe.validation)
    print(processor())
    for name in arguments.models:
        model = Embedder.load(name, device="cpu")
        for ratio, dims in product(arguments.ratio or [1.0, 0.33, 0.1], arguments.dims or [model.dims]):
            scores = {item.name: pair_score(model, item, ratio, dims) for item in pairs}
            scores |= {item.name: retrieval_score(model, item, ratio, dims) for item in retrieval}
            shown = ", ".join(f"{key} {100 * value:.1f}" for key, value in scores.items())
            mean = 100 * sum(scores.values()) / len(scores)
            print(f"{name} at {ratio:g}, {dims} dimensions: {shown}; mean {mean:.2f}", flush=True)


if __name__ == "__main__":
    main()
