"""Long texts as a picture: nDCG@10 against milliseconds a document, a line for a way, a dot for a ratio.

python -m lab.compressors.long_curve mini=RESULT.json e5-small=OTHER.json --set SET --output long-texts.png

Results are those of lab/compressors/long_texts.py. A way of a model with one ratio is a dot of its own.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAMES = {
    "pieces": "pieces",
    "first 512 tokens": "cut at 512 tokens",
    "squeezed": "squeezed into 512 positions",
}


def draw(results: list[tuple[str, list[dict[str, Any]]]], name: str, path: Path, origin: str) -> None:
    """One figure of rows of ``long_texts.py``, by label of their model."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for label, rows in results:
        here = [row for row in rows if row.get("set") == name]
        for way in dict.fromkeys(row["way"] for row in here):
            points = sorted(
                (row["ms per document"], row["ndcg@10"], row["ratio"]) for row in here if row["way"] == way
            )
            times, scores, ratios = zip(*points)
            axes.plot(
                times, scores, "o-" if len(points) > 1 else "D", label=f"{label}: {NAMES.get(way, way)}"
            )
            for time, score, ratio in zip(times, scores, ratios):
                axes.annotate(
                    f"{ratio:g}", (time, score), textcoords="offset points", xytext=(5, 5), fontsize=8
                )
    axes.set(xscale="log", xlabel="ms per document", ylabel="nDCG@10 x 100", title=f"{name}, by ratio")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:,.0f}")
    axes.tick_params(axis="x", which="both", labelsize=8, rotation=45)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.supxlabel(origin, fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", nargs="+", help="LABEL=FILE of a model's results")
    parser.add_argument("--set", required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    results, processors = [], []
    for item in arguments.results:
        label, _, file = item.partition("=")
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        results.append((label, content["rows"]))
        processors.append(content["processor"])
    draw(results, arguments.set, arguments.output, "; ".join(dict.fromkeys(processors)))


if __name__ == "__main__":
    main()
