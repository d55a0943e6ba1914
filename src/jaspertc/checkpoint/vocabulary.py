"""Pruning a tokenizer to the tokens that given texts need.

Texts that were counted are tokenised as before (with ``min_count=1``): Unigram's best path, WordPiece's
longest match and BPE's merges only ever lose candidates that were not chosen.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from jaspertc.errors import InputError, TokenizerError
from jaspertc.text.tokenizer import Tokenizer
from jaspertc.types import IntArray

_SCRIPT_NAMES = {"han": ("CJK",), "kana": ("HIRAGANA", "KATAKANA")}
_MARKS = ("▁", "##", "Ġ")


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> IntArray:
    """How often each token id occurs in ``texts``, shape (V,)."""
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    stream = iter(texts)
    while block := list(islice(stream, 2048)):
        ids = np.concatenate(tokenizer.encode_batch(block))
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def tokens_to_keep(
    tokenizer_json: str,
    counts: IntArray,
    *,
    min_count: int = 1,
    scripts: Sequence[str] = (),
    characters: bool = True,
) -> IntArray:
    """Ids to keep, ascending: special tokens, single characters, scripts asked for, and tokens in use.

    Args:
        counts: occurrences of each id, shape (V,), from ``count_tokens``.
        min_count: occurrences that make a token worth keeping, >= 1; above 1 a rare word is spelled with
            shorter tokens.
        scripts: Unicode script names, such as ``latin`` or ``han``, whose tokens are all kept.
        characters: whether single characters are kept that do not occur; if not, they become unknown.

    Raises:
        InputError: ``min_count`` is out of range, no token is of a script, or ``characters`` is False for
            BPE, which spells all others with them.
    """
    if min_count < 1:
        raise InputError(f"min_count is {min_count}, it must be >= 1")
    content = json.loads(tokenizer_json)
    pieces = _pieces(content)
    wanted: set[int] = {int(index) for index in np.flatnonzero(counts >= min_count)}
    wanted |= _special_ids(content, pieces)
    bare = {index: _bare(piece) for piece, index in pieces.items()}
    if not characters and content["model"]["type"] == "BPE":
        raise InputError("a BPE tokenizer spells with its single characters, they cannot be dropped")
    short = {index: text for index, text in bare.items() if len(text) <= 1}
    wanted.update(index for index, text in short.items() if characters or counts[index] or not text)
    if content["model"].get("byte_fallback"):
        wanted.update(index for piece, index in pieces.items() if piece.startswith("<0x"))
    for script in scripts:
        of_script = {index for index, text in bare.items() if _is_script(text, script)}
        if not of_script:
            raise InputError(
                f"no token of this vocabulary is in the script {script!r}; use names such as latin, han"
            )
        wanted |= of_script
    if content["model"]["type"] == "BPE":
        wanted = _with_parts(wanted, content, pieces)
    return np.array(sorted(wanted), dtype=np.int64)


def prune_tokenizer(tokenizer_json: str, keep: IntArray) -> str:
    """The tokenizer with only the ids in ``keep``, which become 0 ... len(keep) - 1 in the order given.

    Raises:
        TokenizerError: the tokenizer is of a kind that cannot be pruned.
    """
    content = json.loads(tokenizer_json)
    new_id = {int(old): new for new, old in enumerate(keep)}
    model = content["model"]
    kind = model["type"]
    if kind == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in new_id if old < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_id[model["unk_id"]]
    elif kind in ("BPE", "WordPiece", "WordLevel"):
        model["vocab"] = {piece: new_id[old] for piece, old in model["vocab"].items() if old in new_id}
    else:
        raise TokenizerError(f"cannot prune a tokenizer of kind {kind!r}; leave the vocabulary as it is")
    if kind == "BPE":
        known = model["vocab"]
        merges = [(merge, *_merge_parts(merge)) for merge in model["merges"]]
        model["merges"] = [
            m for m, left, right in merges if left in known and right in known and left + right in known
        ]
    for token in content.get("added_tokens", []):
        token["id"] = new_id[token["id"]]
    _renumber(content.get("post_processor"), new_id.__getitem__)
    return json.dumps(content, ensure_ascii=False)


def prune_to_texts(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    min_count: int = 1,
    scripts: Sequence[str] = (),
    characters: bool = True,
) -> tuple[str, IntArray, float]:
    """The pruned ``tokenizer.json``, the ids it keeps, and the share of the texts' tokens that these are."""
    counts, content = count_tokens(tokenizer, texts), tokenizer.to_json()
    keep = tokens_to_keep(content, counts, min_count=min_count, scripts=scripts, characters=characters)
    return prune_tokenizer(content, keep), keep, float(counts[keep].sum() / max(1, counts.sum()))


def _pieces(content: dict[str, Any]) -> dict[str, int]:
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):
        return {piece: index for index, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _special_ids(content: dict[str, Any], pieces: dict[str, int]) -> set[int]:
    """Added tokens, the unknown token and what the post-processor puts around a text."""
    ids = {int(token["id"]) for token in content.get("added_tokens", [])}
    model = content["model"]
    if model.get("unk_id") is not None:
        ids.add(model["unk_id"])
    if model.get("unk_token") in pieces:
        ids.add(pieces[model["unk_token"]])

    def note(token_id: int) -> int:
        ids.add(token_id)
        return token_id

    _renumber(content.get("post_processor"), note)
    return ids


def _bare(piece: str) -> str:
    for mark in _MARKS:
        piece = piece.removeprefix(mark)
    return piece


def _is_script(text: str, script: str) -> bool:
    """Whether ``text`` has letters and all of them are of ``script``."""
    prefixes = _SCRIPT_NAMES.get(script.lower(), (script.upper(),))
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and all(unicodedata.name(letter, "").startswith(prefixes) for letter in letters)


def _merge_parts(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _with_parts(wanted: set[int], content: dict[str, Any], pieces: dict[str, int]) -> set[int]:
    """Add the tokens that BPE merges pass through on the way to the wanted ones, whichever merge is taken."""
    parts: dict[str, list[str]] = {}
    for pair in map(_merge_parts, content["model"]["merges"]):
        parts.setdefault("".join(pair), []).extend(pair)
    names = {index: piece for piece, index in pieces.items()}
    open_ids = list(wanted)
    while open_ids:
        for part in parts.get(names.get(open_ids.pop(), ""), ()):
            if pieces[part] not in wanted:
                wanted.add(pieces[part])
                open_ids.append(pieces[part])
    return wanted


def _renumber(processor: dict[str, Any] | None, renumber: Callable[[int], int]) -> None:
    """Call ``renumber`` on each special token's id in a post-processor and put its answer there."""
    if processor is None:
        return
    for inner in processor.get("processors", []):
        _renumber(inner, renumber)
    if processor["type"] == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            token["ids"] = [renumber(old) for old in token["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            piece, old = processor[key]
            processor[key] = [piece, renumber(old)]
