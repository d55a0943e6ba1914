"""What the stages of a run train on: single texts, or pairs with their hard negatives, by number.

Shape legend: N texts or pairs, K hard negatives of a query.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaspertc.errors import ConfigError
from jaspertc.recipe.recipe import Recipe
from jaspertc.recipe.stages import TextStage
from jaspertc.teaching.mining import read_mined
from jaspertc.teaching.recipe_texts import read_file
from jaspertc.train.batches import PairBatches, TargetsOf, TextBatches
from jaspertc.train.tokens import Tokens
from jaspertc.types import BoolArray, IntArray


@dataclass(frozen=True, kw_only=True)
class StageData:
    """What a stage trains on.

    Attributes:
        batch_at: the texts of a step.
        config: the stage, with its number of steps.
        identity: names the texts, their pairs and their order.
    """

    batch_at: TextBatches | PairBatches
    config: TextStage
    identity: str


def held_out_texts(recipe: Recipe, tokens: Tokens, count: int) -> IntArray:
    """Numbers of the texts that no stage sees: of those outside pairs, where there are some."""
    prefixes = tuple(side.id_prefix for pair in recipe.texts.pairs for side in pair.sides)
    single = np.flatnonzero([not name.startswith(prefixes) for name in tokens.ids])
    chosen = single if len(single) > count else np.arange(len(tokens))
    return np.sort(chosen[np.argsort(tokens.spread[chosen], kind="stable")[:count]])


def stage_data(
    recipe: Recipe, stage: TextStage, tokens: Tokens, held_out: IntArray, targets_of: TargetsOf
) -> StageData:
    """The texts or pairs of a stage, without those held out.

    Raises:
        ConfigError: there are too few, or none of the kind that its losses need.
    """
    assert recipe.student is not None
    low, high = stage.part
    allowed = (tokens.places >= low) & (tokens.places < high) & (tokens.lengths >= stage.min_tokens)
    allowed[held_out] = False
    dropout = recipe.student.prompt_dropout
    batches: TextBatches | PairBatches
    if stage.objective.needs_pairs:
        seen = np.isin(np.arange(len(tokens)), held_out, invert=True)
        queries, documents = _pairs(recipe, stage, tokens, allowed, seen)
        batches = PairBatches(stage, tokens, queries, documents, targets_of, prompt_dropout=dropout)
    else:
        chosen = np.flatnonzero(allowed)
        batches = TextBatches(stage, tokens, chosen, targets_of, prompt_dropout=dropout)
    steps = stage.steps or max(1, round((stage.epochs or 0) * batches.order.steps_per_epoch))
    return StageData(
        batch_at=batches,
        config=replace(stage, steps=steps, epochs=None),
        identity=hashlib.sha256(batches.identity).hexdigest()[:16],
    )


def _pairs(
    recipe: Recipe, stage: TextStage, tokens: Tokens, allowed: BoolArray, seen: BoolArray
) -> tuple[IntArray, IntArray]:
    """Numbers of the stage's queries, shape (N,), and of their documents, shape (N, 1 + K).

    Args:
        allowed: marks the texts that may be queries, shape (texts,).
        seen: likewise those that may be documents.
    """
    numbers = tokens.numbers
    queries: list[int] = []
    documents: list[list[int]] = []
    for query, positive, negatives in _pair_ids(recipe, stage):
        if query in numbers and positive in numbers and allowed[numbers[query]] and seen[numbers[positive]]:
            known = [numbers[name] for name in negatives if name in numbers and seen[numbers[name]]]
            known = known[: stage.negatives]
            queries.append(numbers[query])
            documents.append([numbers[positive], *known, *[-1] * (stage.negatives - len(known))])
    return np.array(queries, np.int64), np.array(documents, np.int64).reshape(-1, 1 + stage.negatives)


def _pair_ids(recipe: Recipe, stage: TextStage) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Ids of queries, their positives and their negatives.

    Raises:
        ConfigError: there are none, or pairs of the recipe have no mined row.
    """
    mining = recipe.mining
    if stage.negatives:
        if mining is None or not mining.output.is_file():
            where = "[mining] output" if mining is None else str(mining.output)
            raise ConfigError(
                f"stage {stage.name}: negatives is {stage.negatives} but there is no {where}; add "
                "[mining] and run `jaspertc mine RECIPE`, or set negatives = 0"
            )
        mined: set[int] = set()
        for row in read_mined(mining.output):
            mined.add(hash((row.query_id, row.positive_id)))
            yield row.query_id, row.positive_id, row.negative_ids
        missing = sum(hash(pair) not in mined for pair in _recipe_pairs(recipe))
        if missing:
            raise ConfigError(
                f"stage {stage.name}: {missing} pairs of the recipe have no row in {mining.output}, they "
                "were added since; run `jaspertc mine RECIPE --overwrite`"
            )
        return
    if not recipe.texts.pairs:
        raise ConfigError(f"stage {stage.name}: its losses need pairs; add [[texts.pairs]]")
    for query, positive in _recipe_pairs(recipe):
        yield query, positive, ()


def _recipe_pairs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Ids of the queries of ``[[texts.pairs]]`` and of their positives."""
    for file in recipe.texts.pairs:
        for query, positive in zip(*(read_file(side) for side in file.sides)):
            yield query.id, positive.id
