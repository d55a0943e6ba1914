"""The kept weights of twelve layers and the built-in model's token table make a checkpoint."""

import numpy as np

from jaspertc import Embedder
from jaspertc.samples import load_samples
from lab.compressors.twelve_layers import write


def test_it_ranks_sentence_pairs_in_both_languages(tmp_path):
    write(tmp_path / "twelve")
    model = Embedder.load(tmp_path / "twelve", device="cpu")
    assert (model.config.backbone.num_layers, model.piece_length) == (12, 512)
    pairs = [pair for pair in load_samples("sts") if pair["lang"] in ("en", "zh")]
    left, right = (model.encode([pair[key] for pair in pairs]) for key in ("sentence1", "sentence2"))
    ranks = [np.argsort(np.argsort(v)) for v in ((left * right).sum(1), [pair["score"] for pair in pairs])]
    assert np.corrcoef(*ranks)[0, 1] > 0.7
