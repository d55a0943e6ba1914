"""What windows cost: processor time of the whole call at one ratio, kinds of windows in interleaved rounds.

    python -m lab.compressors.timing mini --output results.json
    python -m lab.compressors.timing --shape 600m --texts 2 --rounds 5 --output results.json

One model, whose compressor is exchanged before each call; random token ids, one text a call. Processor time
(of all threads together) says the same on a machine that has other work to do; run it with one thread.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from jaspertc import Embedder
from jaspertc.reports.origin import machine, versions
from lab.compare.random_model import released_shape, write_random_model
from lab.compressors.windows import WINDOWS, with_windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="mini")
    parser.add_argument("--shape", help="random weights of this published shape in the model's place")
    parser.add_argument("--tokens", type=int, default=512, help="of a text")
    parser.add_argument("--texts", type=int, default=20, help="a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ratio", type=float, default=0.33)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.shape:
        with TemporaryDirectory() as folder:
            embedder = Embedder.load(write_random_model(Path(folder), released_shape(options.shape)))
    else:
        embedder = Embedder.load(options.model)
    encoder = embedder.runtime.encoder
    prepared = {}
    for kind in WINDOWS:
        with_windows(embedder, kind)
        prepared[kind] = (encoder.compressor, encoder._folded)
    random = np.random.default_rng(0)
    texts = random.integers(5, embedder.config.backbone.vocab_size, size=(options.texts, options.tokens))
    seconds: dict[str, list[float]] = {kind: [] for kind in WINDOWS}
    for number in range(options.rounds + 1):
        order = [*WINDOWS][number % len(WINDOWS) :] + [*WINDOWS][: number % len(WINDOWS)]
        for kind in order:
            encoder.compressor, encoder._folded = prepared[kind]
            begin = time.process_time()
            for ids in texts:
                embedder.encode_ids([ids], ratio=options.ratio)
            if number:  # the first round fills tables
                seconds[kind].append((time.process_time() - begin) / options.texts)
    first = WINDOWS[0]
    rows = {
        kind: {
            "processor milliseconds a text": [round(1000 * each, 2) for each in sorted(taken)],
            f"median of ratios to {first}": round(
                statistics.median(a / b for a, b in zip(taken, seconds[first])), 3
            ),
            "lowest and highest quarter": [
                round(float(each), 3)
                for each in np.quantile([a / b for a, b in zip(taken, seconds[first])], [0.25, 0.75])
            ],
        }
        for kind, taken in seconds.items()
    }
    print(json.dumps(rows))
    if options.output:
        facts: dict[str, object] = {"model": options.shape or options.model, "runtime": repr(embedder)}
        facts |= {"processor": machine(), "versions": versions("jaspertc", "numpy", "torch", "openvino")}
        facts |= {"tokens": options.tokens, "ratio": options.ratio, "texts a round": options.texts}
        options.output.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
