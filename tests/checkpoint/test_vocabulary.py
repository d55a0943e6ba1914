"""Pruned tokenizers give the same pieces for the texts they were pruned for."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from jaspertc.checkpoint.vocabulary import count_tokens, prune_to_texts, prune_tokenizer, tokens_to_keep
from jaspertc.errors import InputError
from jaspertc.samples import load_samples
from jaspertc.text.tokenizer import Tokenizer

TEXTS = [passage["text"] for passage in load_samples("passages")]
KEPT, OTHER = TEXTS[:8] + TEXTS[-8:], TEXTS[8:-8]


def trained(kind: str) -> HFTokenizer:
    """A small tokenizer of this kind, with special tokens around each text."""
    if kind == "Unigram":
        tokenizer = HFTokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=4000, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>"
        )
    elif kind == "WordPiece":
        tokenizer = HFTokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=4000, special_tokens=["<s>", "</s>", "<unk>"])
    else:
        tokenizer = HFTokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=4000,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", "BPE"])
def test_counted_texts_keep_their_pieces(kind: str) -> None:
    before = Tokenizer(trained(kind))
    keep = tokens_to_keep(before.to_json(), count_tokens(before, KEPT))
    after = Tokenizer(HFTokenizer.from_str(prune_tokenizer(before.to_json(), keep)))
    assert len(keep) < before.vocab_size
    assert after.vocab_size == len(keep)
    for old, new in zip(before.encode_batch(KEPT), after.encode_batch(KEPT)):
        assert keep[new].tolist() == old.tolist()
    for row in after.encode_batch(OTHER):  # other texts stay encodable, special tokens included
        assert row.max() < len(keep)
        assert keep[row[0]] == 0
        assert keep[row[-1]] == 1


def test_a_token_that_two_merges_give_keeps_the_parts_of_both() -> None:
    tokens = ["a", "b", "c", "d", "bc", "abc", "cd", "ab"]
    merges = [("b", "c"), ("a", "bc"), ("c", "d"), ("a", "b"), ("ab", "c")]
    model = models.BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=merges)
    before = HFTokenizer(model)
    before.pre_tokenizer = pre_tokenizers.Whitespace()
    pruned, _, share = prune_to_texts(Tokenizer(before), ["abcd", "cd"])
    assert share == 1
    assert HFTokenizer.from_str(pruned).encode("abcd cd").tokens == ["abc", "d", "cd"]


def test_single_characters_and_scripts_are_kept() -> None:
    tokenizer = Tokenizer(trained("Unigram"))
    content = json.loads(tokenizer.to_json())
    pieces = [piece for piece, _ in content["model"]["vocab"]]
    none = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    kept = {pieces[i] for i in tokens_to_keep(tokenizer.to_json(), none)}
    assert {piece for piece in pieces if len(piece) == 1} <= kept
    assert {"<s>", "</s>", "<unk>"} <= kept
    han = {pieces[i] for i in tokens_to_keep(tokenizer.to_json(), none, scripts=["han"])}
    longer = {p for p in pieces if len(p) > 1 and all("一" <= c <= "鿿" for c in p)}
    assert longer
    assert longer <= han
    assert not longer & kept
    assert "▁the" in pieces
    assert "▁the" not in han


def test_single_characters_that_do_not_occur_can_be_dropped() -> None:
    tokenizer = Tokenizer(trained("Unigram"))
    pieces = [piece for piece, _ in json.loads(tokenizer.to_json())["model"]["vocab"]]
    counts = count_tokens(tokenizer, KEPT)
    all_of_them, kept = (
        {pieces[i] for i in tokens_to_keep(tokenizer.to_json(), counts, min_count=3, characters=each)}
        for each in (True, False)
    )
    dropped = all_of_them - kept
    assert dropped
    assert all(len(piece.removeprefix("▁")) == 1 and not counts[pieces.index(piece)] for piece in dropped)
    assert {"▁", "<unk>", "<s>"} <= kept
    with pytest.raises(InputError, match="BPE tokenizer spells with"):
        tokens_to_keep(Tokenizer(trained("BPE")).to_json(), counts * 0, characters=False)


def test_min_count_drops_rare_tokens() -> None:
    tokenizer = Tokenizer(trained("Unigram"))
    counts = count_tokens(tokenizer, TEXTS)
    sizes = [len(tokens_to_keep(tokenizer.to_json(), counts, min_count=n)) for n in (1, 3, 10)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_wrong_arguments_are_named() -> None:
    tokenizer = Tokenizer(trained("Unigram"))
    none = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    with pytest.raises(InputError, match="min_count is 0"):
        tokens_to_keep(tokenizer.to_json(), none, min_count=0)
    with pytest.raises(InputError, match="klingon"):
        tokens_to_keep(tokenizer.to_json(), none, scripts=["klingon"])


def test_bert_and_sequence_processors_are_renumbered() -> None:
    tokenizer = trained("WordPiece")
    template = tokenizer.post_processor
    tokenizer.post_processor = processors.BertProcessing(("</s>", 1), ("<s>", 0))
    keep = np.array([1, 0, *range(2, 50)])  # the special tokens change places
    pruned = HFTokenizer.from_str(prune_tokenizer(tokenizer.to_str(), keep))
    assert keep[pruned.encode("a").ids[0]] == 0
    tokenizer.post_processor = processors.Sequence([template])
    pruned = HFTokenizer.from_str(prune_tokenizer(tokenizer.to_str(), keep))
    assert keep[pruned.encode("a").ids[-1]] == 1
