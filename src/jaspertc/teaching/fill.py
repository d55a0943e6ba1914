"""Runs teachers over texts and keeps their vectors; what can be wrong is found before the first one.

Shape legend: N texts, E width of a teacher's vectors.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from jaspertc.errors import CacheError, ConfigError, TeacherError
from jaspertc.recipe.recipe import Recipe, read_recipe
from jaspertc.teachers import Teacher, TeacherConfig, load_teacher
from jaspertc.teaching.cache import CacheWriter
from jaspertc.teaching.keys import keys_of
from jaspertc.teaching.recipe_texts import RecipeTexts, Text
from jaspertc.teaching.targets import check_widths
from jaspertc.text.tokenizer import clean
from jaspertc.types import BoolArray, FloatArray

# Texts a call: progress is shown after each. Fixed, so that an interrupted run gives the same bytes.
BLOCK = 1024
LIKENESS = 0.99
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Texts of one role for one teacher.

    Attributes:
        total: N, all of them.
        left: those without a vector.
        texts: reads the latter.
    """

    name: str
    teacher: Teacher
    prompt: str
    writer: CacheWriter
    total: int
    left: int
    texts: Callable[[], Iterable[Text]]

    def run(self, shard_rows: int, advance: Callable[[int], None] = lambda count: None) -> None:
        """Embed the texts that have no vector yet; ``advance`` is told of each so many done.

        Raises:
            TeacherError: the teacher gives something else than finite vectors.
            CacheError: a shard cannot be written. Finished ones stay.
            ConfigError: a file was changed meanwhile.
        """
        waiting = iter(self.texts())
        while shard := list(islice(waiting, shard_rows)):
            parts = []
            for begin in range(0, len(shard), BLOCK):
                block = shard[begin : begin + BLOCK]
                parts.append(encode_checked(self.teacher, block, self.prompt))
                advance(len(block))
            ids = [text.id for text in shard]
            self.writer.add(ids, keys_of(ids, [text.text for text in shard]), np.concatenate(parts))


def teach(
    recipe: str | Path | Recipe,
    teacher: str | None = None,
    *,
    repair: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Compute the teachers' vectors that a recipe's texts do not have yet, as ``jaspertc teach`` does.

    Killed, it goes on where it was when it is called again.

    Args:
        recipe: a TOML file, or what ``read_recipe`` made of one.
        teacher: only the one of this name.
        repair: forget damaged shards, to compute their texts again.
        say: told what is going on, a line at a time.

    Returns:
        The folder of vectors.

    Raises:
        ConfigError: recipe, texts and teachers do not fit together.
        CacheError: a cache is damaged, of another teacher, or in use.
        TeacherError: a teacher cannot be loaded, or gives something else than finite vectors.
        JasperError: a file cannot be read.
    """
    read = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    with Teaching(read, teacher, repair=repair, say=say) as teaching:
        for job in teaching.jobs:
            say(f"{job.name}: {job.left} of {job.total} texts have no vector yet")
            job.run(read.cache.shard_rows)
    return read.cache.folder


def choose_teachers(recipe: Recipe, name: str | None) -> tuple[TeacherConfig, ...]:
    """The teachers of a recipe, or the one of a name.

    Raises:
        ConfigError: there is none of that name.
    """
    chosen = tuple(teacher for teacher in recipe.teachers if name in (None, teacher.name))
    if not chosen:
        names = ", ".join(teacher.name for teacher in recipe.teachers)
        raise ConfigError(f"there is no teacher {name!r}; the recipe has {names}")
    return chosen


def check_roles(teachers: Iterable[TeacherConfig], roles: Iterable[str]) -> None:
    """Raise ConfigError unless each teacher has a prompt for each role."""
    wanted = tuple(roles)
    for teacher in teachers:
        for role in wanted:
            teacher.prompt_of(role)


def load_teachers(
    recipe: Recipe,
    teachers: Iterable[TeacherConfig],
    texts: int,
    load: Callable[[TeacherConfig], Teacher] | None = None,
) -> dict[str, Teacher]:
    """Load teachers by name and check that their widths fit their reducers; ``texts`` are there to fit on.

    Raises:
        ConfigError: a width is another than ``dims`` says, or does not fit a reducer.
        JasperError: a teacher cannot be loaded.
    """
    loaded = {}
    for teacher in teachers:
        loaded[teacher.name] = (load or load_teacher)(teacher)
        check_widths(teacher, loaded[teacher.name].dims, min(recipe.fusion.fit_texts, texts))
    return loaded


def open_writer(folder: Path, teacher: Teacher, prompt: str, *, repair: bool = False) -> CacheWriter:
    """A writer, to be entered, for vectors of this teacher and prompt."""
    return CacheWriter(folder, {**teacher.identity, "prompt": prompt, "dims": teacher.dims}, repair=repair)


class Teaching:
    """All that ``teach`` has to do, checked when made. Use as a context manager.

    Args:
        recipe: what to do.
        name: only this teacher.
        repair: forget damaged shards, to compute their texts again.
        say: told what is going on, a line at a time.
        load: gives a teacher, where it is not to be loaded into this process.

    Raises:
        ConfigError: recipe, texts and teachers do not fit together.
        CacheError: a cache is damaged, of another teacher, or in use.
        JasperError: a file cannot be read or a teacher not be loaded.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str | None = None,
        *,
        repair: bool = False,
        say: Callable[[str], None] = lambda line: None,
        load: Callable[[TeacherConfig], Teacher] | None = None,
    ) -> None:
        teachers = choose_teachers(recipe, name)
        check_roles(teachers, recipe.roles)
        say("reading the texts")
        self.recipe = recipe
        self.texts = RecipeTexts(recipe)
        say(f"{len(self.texts)} texts; loading {len(teachers)} teachers")
        loaded = load_teachers(recipe, teachers, len(self.texts), load)
        say("checking the cache")
        self._stack = ExitStack()
        try:
            self.jobs = [job for teacher in teachers for job in self._jobs(teacher, loaded, repair)]
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "Teaching":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _jobs(self, teacher: TeacherConfig, loaded: Mapping[str, Teacher], repair: bool) -> Iterator[Job]:
        by_folder: dict[str, CacheWriter] = {}
        for role in self.recipe.roles:
            folder, prompt = teacher.folder_of(role), teacher.prompt_of(role)
            if folder not in by_folder:
                opened = open_writer(
                    self.recipe.cache.folder / folder, loaded[teacher.name], prompt, repair=repair
                )
                by_folder[folder] = self._stack.enter_context(opened)
                check_same_model(teacher, loaded[teacher.name], prompt, opened, self.texts, role)
            writer = by_folder[folder]
            missing = ~writer.cache.covers(self.texts.keys(role, teacher.skip))
            yield Job(
                name=folder if teacher.prompts or len(self.recipe.roles) == 1 else f"{folder} ({role})",
                teacher=loaded[teacher.name],
                prompt=prompt,
                writer=writer,
                total=len(missing),
                left=int(missing.sum()),
                texts=partial(_missing, self.texts, role, teacher.skip, missing),
            )


def _missing(texts: RecipeTexts, role: str, skip: str, missing: BoolArray) -> Iterator[Text]:
    return (text for text, wanted in zip(texts.read(role, skip), missing) if wanted)


def encode_checked(teacher: Teacher, block: Sequence[Text], prompt: str) -> FloatArray:
    """Vectors that fit the cache, shape (N, E); TeacherError names the text of one that does not."""
    vectors = teacher.encode([clean(text.text) for text in block], prompt)
    if vectors.shape != (len(block), teacher.dims):
        raise TeacherError(
            f"teacher {teacher.identity['model']!r} gave shape {vectors.shape} for {len(block)} texts, "
            f"{(len(block), teacher.dims)} is due"
        )
    wrong = np.flatnonzero(~(np.abs(vectors).max(axis=1) <= LARGEST))
    if len(wrong):
        raise TeacherError(
            f"teacher {teacher.identity['model']!r} gave a vector that is not finite in float16 for text "
            f"{block[int(wrong[0])].id!r}; use dtype float32 or bfloat16, or remove the text"
        )
    return vectors


def check_same_model(
    config: TeacherConfig, teacher: Teacher, prompt: str, writer: CacheWriter, texts: RecipeTexts, role: str
) -> None:
    """A model without a content hash shows by a vector that it is still the one of the cache.

    Raises:
        CacheError: it gives another vector for a text that is there.
    """
    if teacher.identity.get("content hash") is not None or not len(writer.cache):
        return
    for text in islice(texts.read(role, config.skip), 1):
        if writer.cache.covers(keys_of([text.id], [text.text]))[0]:
            now, before = teacher.encode([text.text], prompt)[0], writer.cache.vectors([text.id])[0]
            likeness = float(now @ before / max(np.linalg.norm(now) * np.linalg.norm(before), 1e-12))
            if likeness < LIKENESS:
                raise CacheError(
                    f"{writer.folder}: teacher {config.name!r} now gives text {text.id!r} another vector "
                    f"(cosine {likeness:.3f} to the cached one); the server's model or settings have "
                    "changed: change them back, or give another [cache] folder"
                )
