"""Scores of each teacher and of their fusion, before any training: the target caps the student.

Shape legend: N texts, E width of a teacher's vectors.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jaspertc.errors import ConfigError
from jaspertc.recipe.recipe import Recipe
from jaspertc.teachers import Teacher, TeacherConfig
from jaspertc.teachers.fusion import fuse
from jaspertc.teaching.cache import CacheWriter, VectorCache
from jaspertc.teaching.fill import Job, check_roles, choose_teachers, load_teachers, open_writer
from jaspertc.teaching.keys import content_id, keys_of
from jaspertc.teaching.manifest import MANIFEST, require_same_teacher
from jaspertc.teaching.measures import cosines, retrieval_scores, spearman
from jaspertc.teaching.recipe_texts import RecipeTexts, Text
from jaspertc.teaching.targets import fit_fusion, given
from jaspertc.teaching.validation import read_validation, texts_by_role
from jaspertc.types import FloatArray

# No teacher can be called so.
FOLDER = "_validation"
FUSED = "fused"

Lookup = Callable[[str, Sequence[str]], FloatArray]


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """Scores of one teacher, or of the fused target, by set and measure, in [-1, 1].

    They are NaN for a set with texts that the teacher skips.
    """

    name: str
    dims: int
    scores: dict[str, float]

    @property
    def mean(self) -> float:
        """Over sets that are scored: of Spearman's correlation and nDCG@10."""
        scores = [score for name, score in self.scores.items() if not name.endswith("recall@1")]
        return float(np.mean([score for score in scores if not np.isnan(score)] or [np.nan]))


class Scoring:
    """All that ``teach --score`` has to do, checked when made. Use as a context manager.

    Only the validation texts, and the texts that reducers are fitted on, need vectors; those that the
    teachers' caches lack are kept beside them, so that trying other reducers and weights takes seconds.

    Raises:
        ConfigError: recipe, files and teachers do not fit together.
        CacheError: a cache is damaged, of another teacher, or in use.
        JasperError: a file cannot be read or a teacher not be loaded.
    """

    def __init__(
        self, recipe: Recipe, name: str | None = None, *, say: Callable[[str], None] = lambda line: None
    ) -> None:
        if recipe.validation is None:
            raise ConfigError(
                "the recipe has no [validation]; add one with [[validation.sts]] or retrieval files"
            )
        self.recipe = recipe
        self.teachers = choose_teachers(recipe, name)
        self.pairs, self.retrieval = read_validation(recipe.validation)
        self._needed = texts_by_role(self.pairs, self.retrieval)
        check_roles(self.teachers, [*recipe.roles, *self._needed])
        say("reading the texts")
        texts = RecipeTexts(recipe)
        self._sample = texts.sample(recipe.fusion.fit_texts)
        say(f"loading {len(self.teachers)} teachers")
        self.loaded = load_teachers(recipe, self.teachers, len(texts))
        self._stack = ExitStack()
        self._folders: dict[Path, CacheWriter] = {}
        try:
            self._main = {teacher.name: self._sample_in_main(teacher) for teacher in self.teachers}
            self.jobs = [job for teacher in self.teachers for job in self._jobs(teacher)]
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "Scoring":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def scores(self) -> list[ScoreRow]:
        """A row for each teacher, and one for their fusion; all jobs must have run."""
        lookups = {teacher.name: self._lookup(teacher) for teacher in self.teachers}
        parts = [fit_fusion(teacher, self._sample_vectors(teacher)) for teacher in self.teachers]

        def fused(role: str, texts: Sequence[str]) -> FloatArray:
            return fuse(parts, [lookup(role, texts) for lookup in lookups.values()])

        rows = [self._row(teacher.name, lookups[teacher.name], teacher) for teacher in self.teachers]
        return [*rows, self._row(FUSED, fused)]

    def _row(self, name: str, lookup: Lookup, teacher: TeacherConfig | None = None) -> ScoreRow:
        """A teacher that skips a text of a set has no score there."""

        def whole(*sides: Sequence[str]) -> bool:
            return teacher is None or not any(teacher.skips(text) for side in sides for text in side)

        scores: dict[str, float] = {}
        width = 0
        for pair in self.pairs:
            if not whole(pair.first, pair.second):
                scores[f"{pair.name} Spearman"] = np.nan
                continue
            first, second = lookup(pair.role, pair.first), lookup(pair.role, pair.second)
            scores[f"{pair.name} Spearman"] = spearman(cosines(first, second), pair.scores)
            width = first.shape[1]
        for item in self.retrieval:
            if not whole(item.queries, item.documents):
                scores |= {f"{item.name} recall@1": np.nan, f"{item.name} nDCG@10": np.nan}
                continue
            queries = lookup(item.query_role, item.queries)
            documents = lookup(item.document_role, item.documents)
            recall, gain = retrieval_scores(queries, documents, item.relevant)
            scores |= {f"{item.name} recall@1": recall, f"{item.name} nDCG@10": gain}
            width = queries.shape[1]
        return ScoreRow(name=name, dims=width, scores=scores)

    def _folder(self, teacher: TeacherConfig, role: str) -> Path:
        return self.recipe.cache.folder / FOLDER / teacher.folder_of(role)

    def _lookup(self, teacher: TeacherConfig) -> Lookup:
        caches = {
            role: VectorCache(self._folder(teacher, role), verify=False)
            for role in {*self._needed, *self.recipe.roles}
            if self._folder(teacher, role) in self._folders
        }

        def vectors(role: str, texts: Sequence[str]) -> FloatArray:
            return teacher.where_given(
                texts,
                self.loaded[teacher.name].dims,
                lambda given: caches[role].vectors([content_id(text) for text in given]),
            )

        return vectors

    def _sample_vectors(self, teacher: TeacherConfig) -> FloatArray:
        main, sample = self._main[teacher.name], given(teacher, self._sample)
        if main is not None:
            parts = [main[role].vectors([text.id for text in texts]) for role, texts in sample.items()]
        else:
            lookup = self._lookup(teacher)
            parts = [lookup(role, [text.text for text in texts]) for role, texts in sample.items()]
        return np.concatenate(parts).astype(np.float32)

    def _sample_in_main(self, teacher: TeacherConfig) -> dict[str, VectorCache] | None:
        """The teacher's own caches by role, if they have the texts to fit on."""
        caches: dict[str, VectorCache] = {}
        for role, texts in given(teacher, self._sample).items():
            folder = self.recipe.cache.folder / teacher.folder_of(role)
            if not (folder / MANIFEST).exists():
                return None
            caches[role] = VectorCache(folder)
            wanted = self._identity(teacher, role)
            require_same_teacher(folder, caches[role].identity, wanted)
            keys = keys_of([text.id for text in texts], [text.text for text in texts])
            if not caches[role].covers(keys).all():
                return None
        return caches

    def _identity(self, teacher: TeacherConfig, role: str) -> dict[str, object]:
        loaded = self.loaded[teacher.name]
        writer = open_writer(Path(), loaded, teacher.prompt_of(role))
        return dict(writer.manifest.identity)

    def _jobs(self, teacher: TeacherConfig) -> Iterator[Job]:
        """One for each of the teacher's prompts: several roles may share one."""
        by_folder: dict[Path, dict[str, Text]] = {}
        prompts: dict[Path, str] = {}
        roles = dict.fromkeys([*self._needed, *(self._sample if self._main[teacher.name] is None else ())])
        for role in roles:
            folder = self._folder(teacher, role)
            prompts[folder] = teacher.prompt_of(role)
            texts = list(self._needed.get(role, ()))
            if self._main[teacher.name] is None:
                texts += [text.text for text in self._sample.get(role, ())]
            jobs = by_folder.setdefault(folder, {})
            jobs.update(
                {content_id(text): Text(content_id(text), text) for text in texts if not teacher.skips(text)}
            )
        for folder, wanted in by_folder.items():
            yield self._job(
                teacher, self.loaded[teacher.name], folder, prompts[folder], list(wanted.values())
            )

    def _job(
        self, teacher: TeacherConfig, loaded: Teacher, folder: Path, prompt: str, texts: list[Text]
    ) -> Job:
        writer = self._stack.enter_context(open_writer(folder, loaded, prompt))
        self._folders[folder] = writer
        keys = keys_of([text.id for text in texts], [text.text for text in texts])
        missing = [text for text, there in zip(texts, writer.cache.covers(keys)) if not there]
        return Job(
            name=f"{folder.name} (validation)",
            teacher=loaded,
            prompt=prompt,
            writer=writer,
            total=len(texts),
            left=len(missing),
            texts=partial(list, missing),
        )
