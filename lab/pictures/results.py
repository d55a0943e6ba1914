"""What a model makes of emoji drawings, beside two controls: a table, times, and a picture of what was found.

    python -m lab.pictures.results MODEL EMOJI OUTPUT

EMOJI is the output of lab.pictures.emoji. For each set of drawings and number of tokens: how many pictures
find their own name among all names first and within ten, and how many names their picture; in English and in
Chinese. Controls, on the encoder's mean features: the caption of the most similar training picture, and a
linear map (ridge regression) to the captions' vectors.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaspertc import Embedder
from jaspertc.corpus.pictures import read_picture, to_pixels

Floats = NDArray[np.float32]
Rows = list[dict[str, Any]]
TOKENS = (1, 4, 16, 49)
ROUNDS = 5
AT_ONCE = 16


def unit(vectors: Floats) -> Floats:
    result: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return result


def ranks(queries: Floats, candidates: Floats, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many candidates are nearer to each query than the right one, shape (N,)."""
    likeness = queries @ candidates.T
    found: NDArray[np.int64] = (likeness > likeness[np.arange(len(right)), right][:, None]).sum(1)
    return found


def pooled_features(model: Embedder, paths: list[Path], kept: Path) -> dict[int, Floats]:
    """The encoder's features of pictures at each number of tokens, shape (N, tokens, F), kept in a file."""
    import torch

    tower, features = model.pictures.tower, model.pictures._features
    if not kept.exists():
        rows: list[Floats] = []
        for begin in range(0, len(paths), AT_ONCE):
            images = [read_picture(path) for path in paths[begin : begin + AT_ONCE]]
            with torch.inference_mode():
                grid = features(to_pixels(images, tower.encoder))
                pooled = torch.cat([tower.pool(grid, tokens) for tokens in TOKENS], dim=1)
            rows.append(pooled.numpy().astype(np.float16))
        np.save(kept, np.concatenate(rows))
    parts = np.split(np.load(kept), np.cumsum(TOKENS)[:-1], axis=1)
    return dict(zip(TOKENS, parts))


def vectors_of(model: Embedder, pooled: Floats, tokens: int) -> Floats:
    """The model's vectors of pictures by their features, shape (N, E)."""
    import torch

    tower, found = model.pictures.tower, []
    for begin in range(0, len(pooled), 128):
        part = torch.from_numpy(pooled[begin : begin + 128]).float()
        with torch.inference_mode():
            rows = tower(part)
        lengths = np.full(len(part), tower.rows_of(tokens), dtype=np.int64)
        found.append(model.runtime.embed_rows(rows, lengths))
    return unit(np.concatenate(found))


def ridge(inputs: Floats, targets: Floats, weight: float = 0.1) -> tuple[Floats, Floats]:
    """Matrix and offset of the regression of targets on inputs."""
    x, y = inputs.astype(np.float64), targets.astype(np.float64)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    matrix = np.linalg.solve(gram + weight * gram.diagonal().mean() * np.eye(len(gram)), x.T @ y)
    return matrix.astype(np.float32), (mean_y - mean_x @ matrix).astype(np.float32)


def milliseconds(model: Embedder, path: Path, tokens: int) -> list[float]:
    """Of one picture alone, from its file to its vector, in several rounds."""
    found = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        model.encode_image(path, tokens=tokens)
        found.append(1000 * (time.perf_counter() - started))
    return found[1:]


def main() -> None:
    """Write results.json, results.md and found.png."""
    folder, data, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    output.mkdir(parents=True, exist_ok=True)
    model = Embedder.load(folder)
    rows: Rows = [json.loads(line) for line in (data / "all.jsonl").read_text("utf-8").splitlines()]
    parts = {
        json.loads(line)["code"]: part
        for part in ("train", "validation", "test")
        for line in (data / f"{part}.jsonl").read_text("utf-8").splitlines()
    }
    sets = {name: [row for row in rows if row["set"] == name] for name in ("fluent", "google", "openmoji")}
    emoji = sets["fluent"]
    names = {lang: model.encode([row[lang] for row in emoji]) for lang in ("en", "zh")}
    captions = [text for row in emoji for text in row["captions"]]
    targets = unit(model.encode(captions).reshape(len(emoji), -1, model.dims).mean(1))
    part = np.array([parts[row["code"]] for row in emoji])
    features = {
        name: pooled_features(model, [data / row["path"] for row in found], output / f"features-{name}.npy")
        for name, found in sets.items()
    }
    train = np.flatnonzero(part == "train")
    seen_sets = ("fluent", "google")
    mean = {name: features[name][1][:, 0].astype(np.float32) for name in sets}
    inputs = np.concatenate([mean[name][train] for name in seen_sets])
    wanted = np.concatenate([targets[train]] * len(seen_sets))
    matrix, offset = ridge(inputs, wanted)
    centre = inputs.mean(0)

    def nearest(found: Floats) -> Floats:
        result: Floats = wanted[(unit(found - centre) @ unit(inputs - centre).T).argmax(1)]
        return result

    ways: dict[str, dict[str, Floats]] = {
        "nearest training picture": {name: nearest(mean[name]) for name in sets},
        "linear map": {name: unit(mean[name] @ matrix + offset) for name in sets},
    }
    for tokens in TOKENS:
        ways[f"{tokens} tokens"] = {name: vectors_of(model, features[name][tokens], tokens) for name in sets}
    cases = [("unseen emoji", name, np.flatnonzero(part == "test")) for name in seen_sets]
    cases += [
        ("unseen style", "openmoji", train),
        ("both unseen", "openmoji", np.flatnonzero(part == "test")),
    ]
    table: list[dict[str, Any]] = []
    for what, name, chosen in cases:
        for way, vectors in ways.items():
            row: dict[str, Any] = {"case": what, "set": name, "pictures": len(chosen), "way": way}
            for lang in names:
                for key, found in (
                    (f"picture to {lang}", ranks(vectors[name][chosen], names[lang], chosen)),
                    (f"{lang} to picture", ranks(names[lang][chosen], vectors[name], chosen)),
                ):
                    row[f"{key}, first"] = float((found < 1).mean())
                    row[f"{key}, ten"] = float((found < 10).mean())
            table.append(row)
    path = data / emoji[0]["path"]
    times = {tokens: milliseconds(model, path, tokens) for tokens in TOKENS}
    (output / "results.json").write_text(json.dumps({"table": table, "milliseconds": times}, indent=1))
    (output / "results.md").write_text(markdown(table, times), encoding="utf-8")
    draw(output / "found.png", sets, part, data, ways["16 tokens"], names)


def markdown(table: list[dict[str, Any]], times: dict[int, list[float]]) -> str:
    """The table, first / within ten in percent, and the times."""
    keys = ("picture to en", "en to picture", "picture to zh", "zh to picture")
    lines = ["| | drawings | " + " | ".join(keys) + " |", "|---" * (2 + len(keys)) + "|"]
    for row in table:
        cells = [f"{100 * row[f'{key}, first']:.1f} / {100 * row[f'{key}, ten']:.1f}" for key in keys]
        lines.append(
            f"| {row['way']} | {row['case']}, {row['set']} ({row['pictures']}) | {' | '.join(cells)} |"
        )
    lines += ["", "| tokens | ms a picture, median (lowest to highest) |", "|---|---|"]
    for tokens, found in times.items():
        lines.append(f"| {tokens} | {statistics.median(found):.0f} ({min(found):.0f}–{max(found):.0f}) |")
    return "\n".join(lines) + "\n"


def draw(
    path: Path,
    sets: dict[str, Rows],
    part: Any,
    data: Path,
    vectors: dict[str, Floats],
    names: dict[str, Floats],
) -> None:
    """Pictures with their five nearest names, and names with their five nearest pictures."""
    from matplotlib.figure import Figure

    test = np.flatnonzero(part == "test")
    chosen = np.random.default_rng(1).choice(test, 10, replace=False)
    figure = Figure(figsize=(13, 13), layout="constrained")
    axes = figure.subplots(10, 7, width_ratios=[1, 3.2, 1, 1, 1, 1, 1])
    emoji = sets["fluent"]
    for row, number in enumerate(chosen):
        name = ("fluent", "google")[row % 2]
        likeness = vectors[name][number] @ names["en"].T
        best = np.argsort(-likeness)[:5]
        said = [("✓ " if i == number else "   ") + emoji[i]["en"][:40] for i in best]
        axes[row, 0].imshow(np.asarray(read_picture(data / sets[name][number]["path"])))
        axes[row, 1].text(0, 0.5, "\n".join(said), va="center", fontsize=9)
        axes[row, 1].set_title(f"nearest names; right: {emoji[number]['en'][:36]}", fontsize=8, loc="left")
        found = np.argsort(-(names["en"][number] @ vectors[name].T))[:5]
        for column, other in enumerate(found, 2):
            axes[row, column].imshow(np.asarray(read_picture(data / sets[name][other]["path"])))
            if other == number:
                axes[row, column].set_title("✓", fontsize=9, color="green")
    for axis in axes.flat:
        axis.axis("off")
    figure.suptitle(
        "Unseen emoji, 16 tokens: a drawing's nearest names (left), a name's nearest drawings (right)"
    )
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
