"""Turn a pretrained embedding checkpoint into a token-compression student."""

from jaspertc.graft.surgery import graft
from jaspertc.graft.vocabulary import count_tokens, prune_tokenizer, tokens_to_keep

__all__ = ["count_tokens", "graft", "prune_tokenizer", "tokens_to_keep"]
