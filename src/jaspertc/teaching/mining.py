"""Hard negatives: for each pair of a recipe, the documents most like its query that do not answer it.

Candidates are the positives of all pairs, each text once. Memory: a block of scores (about 0.2 GB) and
about 300 bytes a pair; the candidates' texts are put aside on disk.

Shape legend: P pairs, M documents, N queries of a block, D depth of the ranking, R width of the targets.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from jaspertc.errors import ConfigError, DataFileError
from jaspertc.files.aside import unique_part, writing
from jaspertc.files.json_lines import check_suffix, read_objects
from jaspertc.files.lines import SUFFIXES, json_line, lines_aside
from jaspertc.recipe.recipe import Recipe
from jaspertc.recipe.student import Mining
from jaspertc.teaching.fill import check_roles, choose_teachers
from jaspertc.teaching.nearest import (
    NOTHING,
    KnownPairs,
    Ranking,
    first_of_each_row,
    top_documents,
)
from jaspertc.teaching.recipe_texts import RecipeTexts, Text, read_file
from jaspertc.teaching.targets import Targets
from jaspertc.types import FloatArray, IntArray

QUERIES, DOCUMENTS = 4096, 8192  # of a block of scores
DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class MinedPair:
    """A query, what answers it, and what is like it but does not: ids as in the recipe's texts.

    ``negative_ids`` are sorted by score, best first; there can be fewer than the recipe asks for.
    """

    query_id: str
    positive_id: str
    negative_ids: tuple[str, ...]


@dataclass(kw_only=True)
class Summary:
    """What came of mining.

    Attributes:
        pairs: P.
        documents: M, different texts among the positives.
        negatives: found for all pairs together.
        fewer: pairs with fewer negatives than wanted.
        without: pairs with none.
        false_negatives: documents within the depth that were dropped for scoring above the ceiling.
        answered: pairs whose positive scores at least as high as every document that is not dropped as an
            answer of the same query.
    """

    pairs: int
    documents: int
    negatives: int = 0
    fewer: int = 0
    without: int = 0
    false_negatives: int = 0
    answered: int = 0


class PairMiner:
    """All that ``mine`` has to do, checked when made.

    Args:
        recipe: with [mining] and [[texts.pairs]]; the vectors of its texts must be in its cache.
        overwrite: replace the output if it is there.
        say: told what is going on, a line at a time.

    Raises:
        ConfigError: there is no [mining], no pairs, no teacher of that name, or a number does not fit.
        CacheError: vectors are missing or damaged; the message names the command to run.
        DataFileError: a file cannot be read, or the output cannot be written.
    """

    def __init__(
        self, recipe: Recipe, *, overwrite: bool = False, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.settings = _check_settings(recipe, overwrite)
        teachers = choose_teachers(recipe, self.settings.teacher)
        check_roles(teachers, recipe.roles)
        say("reading the texts")
        texts = RecipeTexts(recipe)
        say(f"{len(texts)} texts; reading their vectors")
        self.pairs = recipe.texts.pairs
        self.targets = Targets(replace(recipe, teachers=teachers), texts)
        sides = [item.keys[:, 2] for item in texts.files[len(recipe.texts.files) :]]
        self.rows = np.cumsum([0, *(len(contents) for contents in sides[::2])])
        contents = np.concatenate(sides[1::2])
        _, firsts, numbers = np.unique(contents, return_index=True, return_inverse=True)
        order = np.argsort(firsts)
        self.first_rows = firsts[order]  # of each document, ascending: documents are numbered as they come
        self.document_contents = contents[self.first_rows]
        self.document_of = np.argsort(order)[numbers]
        self.query_contents = np.concatenate(sides[::2])
        self.query_of = np.unique(self.query_contents, return_inverse=True)[1]
        self.known = KnownPairs(self.query_of, self.document_of, len(order))

    @property
    def total(self) -> int:
        """Scores to compute; ``run`` tells ``advance`` of so many."""
        return len(self.document_of) * len(self.first_rows)

    def run(self, advance: Callable[[int], None] = lambda count: None) -> Summary:
        """Rank, choose and write; the output appears whole or not at all.

        Raises:
            DataFileError: the output could not be written.
            ConfigError: a file was changed meanwhile.
        """
        summary = Summary(pairs=len(self.document_of), documents=len(self.first_rows))
        output = self.settings.output
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=output.parent) as spool, lines_aside(output, unique=unique_part()) as file:
                documents = _Documents(spool, self._documents())
                if len(documents) != summary.documents:
                    raise ConfigError(f"{self.settings.output}: a file of pairs was changed; run it again")
                for lines in self._lines(documents, summary, advance):
                    file.writelines(lines)
        return summary

    def _documents(self) -> Iterator[Text]:
        """The positives, each text once, in order."""
        for pair, begin, end in zip(self.pairs, self.rows, self.rows[1:]):
            first, last = np.searchsorted(self.first_rows, [begin, end])
            wanted = set((self.first_rows[first:last] - begin).tolist())
            for row, text in enumerate(read_file(pair.sides[1])):
                if row in wanted:
                    yield text

    def _lines(
        self, documents: "_Documents", summary: Summary, advance: Callable[[int], None]
    ) -> Iterator[list[bytes]]:
        for pair, begin in zip(self.pairs, self.rows):
            rows = zip(read_file(pair.sides[0]), read_file(pair.sides[1]))
            start = int(begin)
            while block := list(islice(rows, QUERIES)):
                queries, positives = [row[0] for row in block], [row[1] for row in block]
                vectors = self.targets.vectors([text.id for text in queries], pair.query_role)
                answers = self.targets.vectors([text.id for text in positives], pair.positive_role)
                positive_scores = np.einsum("nr,nr->n", vectors, answers)
                ranking = top_documents(
                    vectors, self._blocks(documents.ids, len(block), advance), self.settings.depth
                )
                chosen = self._choose(ranking, positive_scores, start, summary)
                yield [
                    _line(documents, *texts, float(score), negatives, scores)
                    for texts, score, (negatives, scores) in zip(block, positive_scores, chosen)
                ]
                start += len(block)

    def _blocks(self, ids: list[str], queries: int, advance: Callable[[int], None]) -> Iterator[FloatArray]:
        """The documents' vectors, block by block, none of which has documents of two files."""
        for pair, begin, end in zip(self.pairs, self.rows, self.rows[1:]):
            first, last = (int(at) for at in np.searchsorted(self.first_rows, [begin, end]))
            for at in range(first, last, DOCUMENTS):
                names = ids[at : min(at + DOCUMENTS, last)]
                yield self.targets.vectors(names, pair.positive_role)
                advance(queries * len(names))

    def _choose(
        self, ranking: Ranking, positives: FloatArray, start: int, summary: Summary
    ) -> Iterator[tuple[list[int], list[float]]]:
        """The negatives of each query and their scores, and count what happened; ``positives``: (N,)."""
        here = slice(start, start + len(positives))
        documents, scores = ranking
        wanted = documents != NOTHING
        wanted &= ~self.known.hold(self.query_of[here], documents)
        wanted &= self.document_contents[documents] != self.query_contents[here, None]
        summary.answered += int(((scores <= positives[:, None]) | ~wanted).all(axis=1).sum())
        low = scores <= np.float32(self.settings.ceiling) * positives[:, None]
        summary.false_negatives += int((wanted & ~low).sum())
        chosen = first_of_each_row(wanted & low, self.settings.negatives)
        counts = chosen.sum(axis=1)
        summary.negatives += int(counts.sum())
        summary.fewer += int((counts < self.settings.negatives).sum())
        summary.without += int((counts == 0).sum())
        for row, mask in enumerate(chosen):
            yield documents[row, mask].tolist(), scores[row, mask].tolist()


class _Documents:
    """Documents' texts in a temporary file, read by number; ``ids`` stay in memory."""

    def __init__(self, file: IO[bytes], texts: Iterator[Text]) -> None:
        self.file = file
        self.ids: list[str] = []
        ends = [0]
        for text in texts:
            ends.append(ends[-1] + file.write(text.text.encode(errors="surrogatepass")))
            self.ids.append(text.id)
        self.ends: IntArray = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, number: int) -> str:
        begin, end = self.ends[number : number + 2].tolist()
        self.file.seek(begin)
        return self.file.read(end - begin).decode(errors="surrogatepass")


def _line(
    documents: _Documents,
    query: Text,
    positive: Text,
    positive_score: float,
    negatives: list[int],
    scores: list[float],
) -> bytes:
    row = {
        "query_id": query.id,
        "positive_id": positive.id,
        "negative_ids": [documents.ids[number] for number in negatives],
        "query": query.text,
        "positive": positive.text,
        "negatives": [documents.text(number) for number in negatives],
        "positive_score": round(positive_score, DIGITS),
        "negative_scores": [round(score, DIGITS) for score in scores],
    }
    return json_line(row)


def _check_settings(recipe: Recipe, overwrite: bool) -> Mining:
    settings = recipe.mining
    if settings is None:
        raise ConfigError('the recipe has no [mining]; add it, with output = "negatives.jsonl"')
    if not recipe.texts.pairs:
        raise ConfigError(
            "the recipe has no [[texts.pairs]]; add one with a path, such as a file of queries and positives"
        )
    if settings.depth < settings.negatives:
        raise ConfigError(
            f"mining.depth is {settings.depth}, below negatives ({settings.negatives}); raise depth, several "
            "times as high is right"
        )
    output = settings.output
    if not output.name.endswith(SUFFIXES):
        raise ConfigError(f"mining.output is {output}, it must end in {' or '.join(SUFFIXES)}")
    for file in recipe.texts.all_files:
        if output.exists() and file.path.exists() and output.samefile(file.path):
            raise ConfigError(f"mining.output is {output}, a file of [texts]; give another")
    if output.is_dir():
        raise ConfigError(f"mining.output is {output}, a folder; give a file")
    if output.exists() and not overwrite:
        raise DataFileError(f"{output} exists already; give --overwrite to replace it, or another output")
    return settings


def read_mined(path: str | Path) -> Iterator[MinedPair]:
    """What ``mine`` has written, in order, in constant memory.

    Args:
        path: .jsonl or .jsonl.gz.

    Raises:
        DataFileError: the file cannot be read, or a line lacks a key or has a wrong value there; file, line
            and key are named.
    """
    path = Path(path)
    check_suffix(path)
    for where, row in read_objects(path):
        for key in ("query_id", "positive_id", "negative_ids"):
            if key not in row:
                raise DataFileError(f"{where}: no {key!r}; give a file that `jaspertc mine` has written")
        negatives = row["negative_ids"]
        for key in ("query_id", "positive_id"):
            if not isinstance(row[key], str):
                raise DataFileError(f"{where}: {key!r} is {row[key]!r:.80}, it must be a string")
        if not isinstance(negatives, list) or not all(isinstance(name, str) for name in negatives):
            raise DataFileError(f"{where}: 'negative_ids' is {negatives!r:.80}, it must be a list of strings")
        yield MinedPair(
            query_id=row["query_id"], positive_id=row["positive_id"], negative_ids=tuple(negatives)
        )
