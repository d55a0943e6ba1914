"""nDCG@10 against the compressed tokens of a document, windows compared: a picture of windows.py's results.

python -m lab.compressors.curve lab/compressors/results/windows.json docs/reports/compressors/curve.png
"""

import argparse
import json
from pathlib import Path

from jaspertc.reports.drawing import COLOURS, matplotlib, plain_ticks

NAMES = {
    "adaptive-average": "adaptive (the report's)",
    "disjoint-average": "disjoint",
    "fractional-average": "fractional",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    rows = [row for row in json.loads(options.results.read_text())["rows"] if row["answers"] == "all"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    library = matplotlib()
    from matplotlib.figure import Figure

    with library.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 6), layout="constrained")
        for name, axes in zip(sets, figure.subplots(2, 2).flat):
            for row, colour in zip((row for row in rows if row["set"] == name), COLOURS):
                tokens, scores, spread = (row[key] for key in ("tokens", "ndcg@10", "against the first"))
                axes.plot(
                    list(tokens.values()),
                    list(scores.values()),
                    "o-",
                    color=colour,
                    label=NAMES[row["windows"]],
                )
                low, high = zip(*spread.values())
                base = [score - (a + b) / 2 for score, (a, b) in zip(scores.values(), zip(low, high))]
                if row["windows"] != "adaptive-average":
                    below = [b + a for b, a in zip(base, low)]
                    above = [b + a for b, a in zip(base, high)]
                    axes.fill_between(list(tokens.values()), below, above, color=colour, alpha=0.12, lw=0)
            axes.set_title(name.replace(" ", ": ", 1), fontsize=9)
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
            axes.set_xlabel("compressed tokens of a document")
            axes.set_ylabel("nDCG@10")
            axes.grid(alpha=0.2)
        figure.axes[0].legend(loc="lower right")
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(options.picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
