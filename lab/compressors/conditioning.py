"""How much of neighbouring tokens' difference windows keep near ratio 1: the smallest singular value.

    python -m lab.compressors.conditioning --output results.json

Of the averaging matrix, C x L, of a text of L tokens in C windows. 1: all is kept; near 0: some difference
between neighbouring tokens hardly reaches the layers. No model is needed.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from jaspertc.model.compressors import COMPRESSORS, build_compressor
from jaspertc.model.lengths import target_lengths
from jaspertc.text.packing import pack
from jaspertc.types import FloatArray
from lab.compressors.windows import WINDOWS

LENGTHS = (81, 100, 150, 256, 512)
RATIOS = (0.95, 0.9, 0.8)
THRESHOLD = 80


def averaging_matrix(kind: str, length: int, target: int) -> FloatArray:
    """Shape (C, L): a row has the weights of its window, which add up to 1."""
    compressor = build_compressor(COMPRESSORS[kind].Config(), 1)
    windows = compressor.windows(pack([np.zeros(length, np.int64)]), np.array([target]))
    sizes = np.diff(np.append(windows.starts, len(windows.gather)))
    row = np.repeat(np.arange(target), sizes)
    matrix = np.zeros((target, length))
    matrix[row, windows.gather] = 1 / sizes[row] if windows.weights is None else windows.weights
    return matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for length in LENGTHS:
        for ratio in RATIOS:
            target = int(target_lengths(np.array([length]), ratio=ratio, threshold=THRESHOLD)[0])
            least = {
                kind: round(float(np.linalg.svd(averaging_matrix(kind, length, target))[1].min()), 4)
                for kind in WINDOWS
            }
            rows.append({"tokens": length, "ratio": ratio, "windows": target, "smallest": least})
            print(rows[-1], flush=True)
    if options.output:
        facts = {"command": "python -m lab.compressors.conditioning", "threshold": THRESHOLD}
        options.output.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
