"""What requests and answers look like; also the source of the OpenAPI document."""

from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from jaspertc.errors import RequestError

TEXTS = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 2048},
    ]
}
IMAGE = {
    "type": "object",
    "properties": {"image": {"type": "string", "pattern": "^data:image/"}},
    "required": ["image"],
    "additionalProperties": False,
}
INPUT = {
    "anyOf": [
        *TEXTS["anyOf"],
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "title": "token ids"},
        {
            "type": "array",
            "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            "minItems": 1,
            "maxItems": 2048,
            "title": "several texts as token ids",
        },
        {**IMAGE, "title": "a picture"},
        {"type": "array", "items": IMAGE, "minItems": 1, "title": "several pictures"},
    ]
}
Texts = Annotated[Any, WithJsonSchema(TEXTS)]
Input = Annotated[Any, WithJsonSchema(INPUT)]
# Never in an answer: JSON has no NaN, and a client's text must not come back in an error.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

M = TypeVar("M", bound=BaseModel)


class Dial(BaseModel):
    """The fields of our own: how much to compress, and what to put before each text."""

    model_config = STRICT

    compression_ratio: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the tokens above the threshold that remains; fixes the ratio under load.",
    )
    max_compressed: int | None = Field(
        default=None, ge=1, le=2**31, description="No text costs more than this many compressed tokens."
    )
    threshold: int | None = Field(
        default=None, ge=1, le=2**31, description="Texts up to this many tokens are not compressed."
    )
    prompt_name: str | None = Field(default=None, description="One of the model's prompts, such as query.")
    prompt: str | None = Field(default=None, description="Text put before each text; empty for none.")


class EmbeddingRequest(Dial):
    """OpenAI's request, and the dial."""

    input: Input = Field(
        description="One text or up to 2048; or pictures; or token ids if the server allows them."
    )
    model: str = Field(description="The model's name, also as NAME:prompt, NAME@ratio or NAME:prompt@ratio.")
    dimensions: int | None = Field(
        default=None, ge=1, le=2**31, description="A width that the model was trained for."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="base64: little-endian float32. Default: float."
    )
    image_tokens: int | None = Field(
        default=None,
        ge=1,
        le=2**31,
        description="Tokens of a picture: 1, 4, 9, 16 ...; default: the model's.",
    )
    user: str | None = Field(default=None, description="Ignored.")


class TokenizeRequest(Dial):
    """Texts to show as tokens and windows."""

    input: Texts
    model: str | None = None


class SimilarityRequest(Dial):
    """Two groups of texts, or one to compare with itself."""

    input: Texts
    other: Texts | None = None
    model: str | None = None


class SearchRequest(BaseModel):
    """What to look for in the server's index."""

    model_config = STRICT

    query: str = Field(min_length=1, description="A text that is not blank.")
    k: int = Field(default=10, ge=1, le=1000, description="How many documents at most.")
    mode: Literal["vector", "text", "hybrid"] = Field(
        default="hybrid", description="By meaning, by words, or by both."
    )
    where: dict[str, str | int | float | bool | None] | None = Field(
        default=None, description="Only documents whose metadata has these keys with equal values."
    )
    model: str | None = None


class Usage(BaseModel):
    """Tokens before compression."""

    prompt_tokens: int
    total_tokens: int


class Compression(BaseModel):
    """What the dial did."""

    ratio: float = Field(description="The ratio that was used.")
    adapted: bool = Field(description="Whether load made it lower than the model's, to keep the promise.")
    compressed_tokens: int = Field(description="Tokens computed, after compression.")


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingResponse(BaseModel):
    """OpenAI's answer, and what the dial did."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    compression: Compression


class Tokens(BaseModel):
    """One text's tokens and the windows that become compressed tokens."""

    ids: list[int]
    pieces: list[str]
    compressed: int
    windows: list[tuple[int, int]] = Field(description="First and end token of each window.")


class TokenizeResponse(BaseModel):
    """The answer of /tokenize."""

    model: str
    ratio: float
    data: list[Tokens]


class SearchHit(BaseModel):
    """A document, and the part of it that answers best."""

    id: str
    score: float = Field(description="Cosine, share of the terms, or cosine with a bonus for shared terms.")
    text: str
    metadata: dict[str, Any]
    start: int = Field(description="First character of the passage in the text.")
    stop: int
    heading: str


class SearchResponse(BaseModel):
    """The documents that answer best, best first."""

    object: Literal["list"]
    data: list[SearchHit]
    model: str


class SimilarityResponse(BaseModel):
    """Cosine of every text of ``input`` (rows) with every text of ``other`` (columns)."""

    model: str
    similarities: list[list[float]]
    usage: Usage
    compression: Compression


class Model(BaseModel):
    """One model, as OpenAI's clients list it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All names of the model."""

    object: Literal["list"]
    data: list[Model]


class Problem(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Refusal(BaseModel):
    """OpenAI's form of an error."""

    error: Problem


def parse(model: type[M], body: bytes) -> M:
    """Read a request's body.

    Raises:
        RequestError: no JSON, or not of this form; the field, the problem and, for an unknown field, the
            nearest known one are named.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        one_of = first["loc"][:1] == ("where",) and len(first["loc"]) > 2  # the last: a type it may have
        field = ".".join(str(part)[:50] for part in first["loc"][: 2 if one_of else None]) or None
        if first["type"] == "json_invalid":
            message = f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
        elif first["type"] == "extra_forbidden" and field is not None:
            near = get_close_matches(field, model.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(model.model_fields)}"
            message = f"unknown field {field!r}; {hint}"
        elif one_of:
            message = f"{field} must be a string, number, boolean or null"
        elif field is None:
            message = f"the body must be a JSON object: {first['msg']}"
        else:
            message = f"{field}: {first['msg']}"
        raise RequestError(message, param=field) from None


def read_texts(value: Any, *, param: str = "input", most: int) -> list[str]:
    """One text or several, none of them empty.

    Raises:
        RequestError: anything else; the index is named, the text never shown.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise RequestError(
            f"{param} is of type {_kind(value)}, it must be a string or a list of strings", param=param
        )
    _check_count(len(texts), param, most)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise RequestError(
                f"{param} {index} is of type {_kind(text)}, it must be a string like the others", param=param
            )
        if not text:
            raise RequestError(
                f"{param} {index} is an empty string; leave it out, or send a space", param=param
            )
    return texts


def read_ids(value: Any, *, most: int) -> list[list[int]] | None:
    """Rows of token ids, or ``None`` if ``value`` is something else.

    Raises:
        RequestError: a row is empty or holds something else than integers.
    """
    if not isinstance(value, list) or not value:
        return None
    if _is_id(value[0]):
        for index, entry in enumerate(value):
            if not _is_id(entry):
                raise RequestError(
                    f"input {index} is of type {_kind(entry)}, it must be a token id like the others",
                    param="input",
                )
        value = [value]
    if not isinstance(value[0], list):
        return None
    _check_count(len(value), "input", most)
    for index, row in enumerate(value):
        if not isinstance(row, list) or not row or not all(map(_is_id, row)):
            raise RequestError(
                f"input {index} must be a list of one or more token ids, like the others", param="input"
            )
    rows: list[list[int]] = value
    return rows


def _check_count(count: int, param: str, most: int) -> None:
    if not count:
        raise RequestError(f"{param} has 0 entries, it must have 1 ... {most:,}", param=param)
    if count > most:
        raise RequestError(
            f"{param} has {count:,} entries, it must have 1 ... {most:,}; send the rest in more requests",
            param=param,
        )


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: object) -> str:
    names = {
        type(None): "null",
        bool: "boolean",
        int: "number",
        float: "number",
        dict: "object",
        list: "array",
    }
    return names.get(type(value), type(value).__name__)
