"""nDCG@10 by ratio, windows compared: a picture of windows.py's results.

    python -m lab.compressors.curve RESULTS.json docs/reports/compressors/curve.png

What a ratio costs is what its tokens cost: windows do not differ in time (timing.py).
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
    rows = json.loads(options.results.read_text())["rows"]
    rows = [row for row in rows if row.get("answers", "all") == "all"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    library = matplotlib()
    from matplotlib.figure import Figure

    with library.rc_context({"font.size": 9}):
        figure = Figure(figsize=(3.2 * len(sets), 3.2), layout="constrained")
        for name, axes in zip(sets, figure.subplots(1, len(sets), squeeze=False).flat):
            for row, colour in zip((row for row in rows if row["set"] == name), COLOURS):
                scores = row["ndcg@10"]
                label = NAMES[row["windows"]]
                axes.plot(
                    [float(ratio) for ratio in scores], list(scores.values()), "o-", color=colour, label=label
                )
            axes.set_title(f"{name.replace(' ', chr(10), 1)}\n{row['documents']} documents", fontsize=9)
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
            axes.set_xlabel("ratio")
            axes.grid(alpha=0.2)
        figure.axes[0].set_ylabel("nDCG@10")
        figure.axes[0].legend(loc="lower right", fontsize=8)
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(options.picture, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
