"""A thin, stateless layer over Hugging Face ``tokenizers``."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as HFTokenizer

from jaspertc.errors import InputError, TokenizerError
from jaspertc.text.invisible import has_rule, visible, without_invisible
from jaspertc.text.pieces import lead_length, piece_starts
from jaspertc.types import IntArray

# Tokens of a long text's beginning that each of its later pieces begins with; docs/reports/long-texts.md.
LEAD = 32
_SURROGATE = re.compile("[\ud800-\udfff]")
_JOINED = re.compile("[\ud800-\udbff](?=[\udc00-\udfff])")


def clean(text: str) -> str:
    """Make ``text`` valid Unicode: paired surrogates are joined, lone ones become U+FFFD.

    Nothing else is changed: control and invisible characters reach the tokenizer, which defines them.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Tokenizer:
    """Text to token ids, with the special tokens that the checkpoint's own ``tokenizer.json`` adds.

    Truncation and padding stored in the file are ignored: lengths are an argument of each call.

    Args:
        tokenizer: a loaded ``tokenizers.Tokenizer``.
        fallback_id: the id that stands for a text which gives no token at all (an empty text under a
            tokenizer that adds nothing), so that its vector is defined.

    Attributes:
        special_count: tokens that are added to each text.
    """

    def __init__(self, tokenizer: HFTokenizer, *, fallback_id: int | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._fallback_id = fallback_id
        with_special = tokenizer.encode("a").ids
        without = tokenizer.encode("a", add_special_tokens=False).ids
        begin = next(
            (
                start
                for start in range(len(with_special) - len(without) + 1)
                if with_special[start : start + len(without)] == without
            ),
            0,
        )
        self._suffix = np.array(with_special[begin + len(without) :], dtype=np.int64)
        self.special_count = len(with_special) - len(without)

    @classmethod
    def from_file(cls, path: Path, *, fallback_id: int | None = None) -> "Tokenizer":
        """Read ``tokenizer.json``.

        Raises:
            TokenizerError: the file is missing or is no tokenizer.
        """
        if not path.is_file():
            raise TokenizerError(
                f"no tokenizer at {path}; put the checkpoint's tokenizer.json there (transformers makes "
                "one of a slow tokenizer: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)), "
                "or pass token ids to encode_ids"
            )
        try:
            return cls(HFTokenizer.from_file(str(path)), fallback_id=fallback_id)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics
            raise TokenizerError(f"{path} is not a tokenizer.json that can be read: {error}") from error

    def without_invisible(self) -> "Tokenizer":
        """The same for models made here: it leaves invisible characters out first; see ``invisible``."""
        content = without_invisible(self.to_json())
        return Tokenizer(HFTokenizer.from_str(content), fallback_id=self._fallback_id)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return int(self._tokenizer.get_vocab_size())

    def encode_batch(self, texts: Sequence[str], *, max_length: int | None = None) -> list[IntArray]:
        """Token ids of each text, shape (L,), in order.

        Args:
            texts: any strings; invalid surrogates are replaced (see ``clean``).
            max_length: keep at most this many tokens, cutting the text and keeping the special tokens at
                its end; ``None`` keeps all.

        Raises:
            InputError: ``max_length`` leaves no room for a token beside the special ones.
        """
        if max_length is not None and max_length <= self.special_count:
            raise InputError(
                f"max_length is {max_length}, it must be > {self.special_count}, "
                "the number of special tokens that this tokenizer adds"
            )
        encodings = self._tokenizer.encode_batch_fast([clean(text) for text in texts])
        rows = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        if self._fallback_id is not None:
            rows = [row if len(row) else np.array([self._fallback_id], dtype=np.int64) for row in rows]
        return rows if max_length is None else [self.truncate(row, max_length) for row in rows]

    def truncate(self, row: IntArray, max_length: int) -> IntArray:
        """At most ``max_length`` tokens of ``row``, shape (L,), special tokens at its end kept."""
        if len(row) <= max_length:
            return row
        return np.concatenate([row[: max_length - len(self._suffix)], self._suffix])

    def cut(
        self, text: str, *, prompt: str = "", room: int, max_length: int | None = None
    ) -> tuple[list[IntArray], IntArray]:
        """A long text in pieces, each with the prompt and the special tokens; see ``piece_starts``.

        All but the first begin with the text's first line or sentence (``lead_length``), for context.

        Args:
            prompt: text put before each piece.
            room: tokens of a piece, prompt and special tokens included, >= 16. A text whose prompt would take
                more than half of it stays whole.
            max_length: keep at most this many tokens of prompt and text together, as ``encode_batch`` does.

        Returns:
            Token ids of each piece, shape (L,), and its characters in ``text``, first and end, shape
            (pieces, 2).
        """
        seen = clean(text)
        # Ends of sentences are looked for in what the tokenizer sees.
        if has_rule(self._tokenizer.normalizer):
            seen, places = visible(seen)
            rows, spans = self._cut(clean(prompt), seen, room, max_length)
            spans = places[spans]
            spans[0, 0] = 0
        else:
            rows, spans = self._cut(clean(prompt), seen, room, max_length)
        joined = [match.end() for match in _JOINED.finditer(text)]
        return rows, np.delete(np.arange(len(text) + 1), joined)[spans] if joined else spans

    def _cut(
        self, prompt: str, text: str, room: int, max_length: int | None
    ) -> tuple[list[IntArray], IntArray]:
        """``cut`` for valid Unicode."""
        encoding = self._tokenizer.encode(prompt + text)
        ids = np.array(encoding.ids, dtype=np.int64)
        spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) - len(prompt)
        inside = np.flatnonzero((np.array(encoding.special_tokens_mask) == 0) & (spans[:, 0] >= 0))
        if not len(inside):
            return [ids], np.array([[0, len(text)]], dtype=np.int64)
        first, end = int(inside[0]), int(inside[-1]) + 1
        head, tail = ids[:first], ids[end:]
        if max_length is not None:
            end = max(first + 1, min(end, max_length - len(tail)))
        last = len(text) if end > inside[-1] else int(spans[end - 1, 1])
        space = room - len(head) - len(tail)
        if space < room // 2:  # a prompt that leaves little of each piece: better one row
            return [ids if max_length is None else self.truncate(ids, max_length)], np.array([[0, last]])
        lead = ids[first : first + lead_length(text, spans[first:end], min(LEAD, space // 4))]
        starts = piece_starts(text, spans[first:end], space - len(lead))
        edges = [*(starts + first).tolist(), end]
        rows = [
            np.concatenate([head, lead if begin > first else lead[:0], ids[begin:stop], tail])
            for begin, stop in pairwise(edges)
        ]
        begins = [0, *spans[edges[1:-1], 0].tolist()]
        ends = [*begins[1:], last]
        return rows, np.array(list(zip(begins, ends)), dtype=np.int64)

    def pieces(self, ids: Sequence[int] | IntArray) -> list[str]:
        """The piece of text behind each id, spaces and special tokens included.

        Bytes of a character that is split over several tokens are shown as U+FFFD.
        """
        names = [self._tokenizer.id_to_token(int(item)) or "?" for item in ids]
        if any("▁" in name for name in names):  # SentencePiece's mark for a space
            return [name.replace("▁", " ") for name in names]
        return [
            self._tokenizer.decode([int(item)], skip_special_tokens=False) or name
            for item, name in zip(ids, names)
        ]

    def to_json(self) -> str:
        """The content of a ``tokenizer.json``."""
        return str(self._tokenizer.to_str())
