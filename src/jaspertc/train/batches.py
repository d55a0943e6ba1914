"""Which texts a step sees: a function of the step's number alone, on any number of processes.

Shape legend: N texts, B texts of a step.
"""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from jaspertc.errors import ConfigError
from jaspertc.recipe.stages import TextStage
from jaspertc.train.step import StepBatch
from jaspertc.train.tokens import Tokens
from jaspertc.types import FloatArray, IntArray

TargetsOf = Callable[[Sequence[str], str], FloatArray]  # ids and role -> unit targets

MEGABATCH = 50  # batches whose texts are sorted by length together


class Order:
    """Numbers 0 ... N - 1 in a new order each epoch.

    Args:
        count: N.
        batch_size: of them a step; the last, incomplete batch of an epoch is left out.
        lengths: sort by them within every ``MEGABATCH`` batches, so that a batch's texts are alike.
    """

    def __init__(self, count: int, batch_size: int, seed: int, lengths: IntArray | None = None) -> None:
        self.count, self.batch_size, self.seed, self.lengths = count, batch_size, seed, lengths
        self.steps_per_epoch = count // batch_size
        self._epoch: tuple[int, IntArray] | None = None

    def at(self, step: int) -> IntArray:
        """The numbers of a step, shape (batch_size,)."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(np.random.default_rng([self.seed, epoch])))
        begin = batch * self.batch_size
        return self._epoch[1][begin : begin + self.batch_size]

    def _order(self, rng: np.random.Generator) -> IntArray:
        order = rng.permutation(self.count)
        if self.lengths is None:
            return order
        batches: list[IntArray] = []
        size = self.batch_size * MEGABATCH
        for begin in range(0, self.count, size):
            chunk = order[begin : begin + size]
            chunk = chunk[np.argsort(self.lengths[chunk], kind="stable")]
            batches += [chunk[at : at + self.batch_size] for at in range(0, len(chunk), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        return np.concatenate([*(full[number] for number in rng.permutation(len(full))), *rest])


class TextBatches:
    """Batches of single texts.

    Args:
        chosen: the numbers of the texts that this stage may see, shape (N,).
        targets_of: the teachers' fused vectors.
        prompt_dropout: share of the texts seen without their prompt.

    Raises:
        ConfigError: there are fewer texts than a batch holds.
    """

    def __init__(
        self,
        config: TextStage,
        tokens: Tokens,
        chosen: IntArray,
        targets_of: TargetsOf,
        *,
        prompt_dropout: float = 0.0,
    ) -> None:
        _require_enough(config, len(chosen), "texts")
        self.config, self.tokens, self.chosen, self.targets_of = config, tokens, chosen, targets_of
        self.prompt_dropout = prompt_dropout
        lengths = tokens.lengths[chosen] if config.group_by_length else None
        self.order = Order(len(chosen), config.batch_size, config.seed, lengths)

    @property
    def identity(self) -> bytes:
        """Names the texts and their order."""
        return repr(self.config.batch_size).encode() + self.chosen.tobytes()

    def __call__(self, step: int) -> StepBatch:
        """The texts of a step."""
        numbers = self.chosen[self.order.at(step)]
        return _batch(self.tokens, numbers, self.targets_of, self.prompt_dropout, (self.config.seed, step))


class PairBatches:
    """Batches of queries with their documents.

    Args:
        queries: numbers of N queries, shape (N,).
        documents: for each the numbers of its positive and its hard negatives, shape (N, 1 + K); -1 where
            there are not enough, for which the positive of some other query of the file is taken.
    """

    def __init__(
        self,
        config: TextStage,
        tokens: Tokens,
        queries: IntArray,
        documents: IntArray,
        targets_of: TargetsOf,
        *,
        prompt_dropout: float = 0.0,
    ) -> None:
        _require_enough(config, len(queries), "pairs")
        self.config, self.tokens, self.targets_of = config, tokens, targets_of
        self.queries, self.documents = queries, documents
        self.prompt_dropout = prompt_dropout
        self.order = Order(len(queries), config.batch_size, config.seed)
        self._by_query = np.argsort(queries, kind="stable")
        fewer = np.unique(queries[(documents < 0).any(1)])
        positives = len(np.unique(documents[:, 0]))
        if any(len(self._answers(query)) == positives for query in fewer.tolist()):
            raise ConfigError(
                f"stage {config.name}: negatives is {config.negatives}, fewer were mined for a query, and "
                "every positive answers it; add pairs, or set negatives = 0"
            )

    @property
    def identity(self) -> bytes:
        """Names the pairs and their order."""
        return repr(self.config.batch_size).encode() + self.queries.tobytes() + self.documents.tobytes()

    def __call__(self, step: int) -> StepBatch:
        """The queries and documents of a step."""
        pairs = self.order.at(step)
        documents = self.documents[pairs]
        rng = np.random.default_rng([self.config.seed, step, 2])
        others = rng.integers(0, len(self.documents), documents.shape)
        for row, column in np.argwhere(documents < 0):
            documents[row, column] = self._positive_of_another(
                int(self.queries[pairs[row]]), others[row, column]
            )
        numbers = np.concatenate([self.queries[pairs], documents.reshape(-1)])
        return _batch(
            self.tokens,
            numbers,
            self.targets_of,
            self.prompt_dropout,
            (self.config.seed, step),
            queries=len(pairs),
            negatives=documents.shape[1] - 1,
        )

    def _answers(self, query: int) -> set[int]:
        """Numbers of a query's positives, of which there can be several."""
        begin, end = np.searchsorted(self.queries, [query, query + 1], sorter=self._by_query)
        return set(self.documents[self._by_query[begin:end], 0].tolist())

    def _positive_of_another(self, query: int, pair: int) -> int:
        """The first positive from a pair on, round the end, that does not answer a query."""
        answers = self._answers(query)
        positives = chain(self.documents[pair:, 0], self.documents[:pair, 0])
        return next(int(number) for number in positives if int(number) not in answers)


def _require_enough(config: TextStage, count: int, what: str) -> None:
    if count < config.batch_size:
        raise ConfigError(
            f"stage {config.name}: batch_size is {config.batch_size} but there are {count} {what}; make it "
            "smaller, or check part, min_tokens and [training] held_out"
        )


def _batch(
    tokens: Tokens,
    numbers: IntArray,
    targets_of: TargetsOf,
    prompt_dropout: float,
    seed: tuple[int, int],
    queries: int = 0,
    negatives: int = 0,
) -> StepBatch:
    with_prompt = np.random.default_rng([*seed, 1]).random(len(numbers)) >= prompt_dropout
    ids = [tokens.ids[number] for number in numbers.tolist()]
    return StepBatch(
        rows=[tokens.row(number, prompt=bool(keep)) for number, keep in zip(numbers.tolist(), with_prompt)],
        teacher=targets_by_role(tokens, numbers, targets_of),
        ids=ids,
        queries=queries,
        negatives=negatives,
    )


def targets_by_role(tokens: Tokens, numbers: IntArray, targets_of: TargetsOf) -> FloatArray:
    """Unit targets of texts of any role, shape (B, E), in their order."""
    targets: FloatArray | None = None
    for role_number, role in enumerate(tokens.roles):
        where = np.flatnonzero(tokens.role_of[numbers] == role_number)
        if len(where):
            vectors = targets_of([tokens.ids[number] for number in numbers[where].tolist()], role)
            if targets is None:
                targets = np.empty((len(numbers), vectors.shape[1]), np.float32)
            targets[where] = vectors
    assert targets is not None
    return targets
