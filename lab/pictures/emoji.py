"""Emoji drawings with English and Chinese names, as files of captioned pictures.

    python -m lab.pictures.emoji FETCHED OUTPUT

FETCHED holds four npm packages, unpacked: @lobehub/fluent-emoji-3d as fluent, emoji-datasource-google as
google, openmoji, and emojibase-data as names. A tenth of the emoji is kept for testing, a twentieth for
validation, both by a hash of the code; OpenMoji's drawings are never trained on. Needs resvg-py, which draws
its SVG files.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDERS = {
    "fluent": ("fluent/assets", ".webp"),
    "google": ("google/img/google/64", ".png"),
    "openmoji": ("openmoji/color/svg", ".svg"),
}
COMPONENTS = 2  # the group of skin tones and hair, which are no emoji by themselves
SIDE = 256


def read_emoji(fetched: Path) -> list[dict[str, Any]]:
    """Emoji that all three sets have: code, names, captions, part and each set's file."""
    files = {name: _files(fetched / folder, suffix) for name, (folder, suffix) in FOLDERS.items()}
    english, chinese = (
        json.loads((fetched / f"names/{lang}/data.json").read_text("utf-8")) for lang in ("en", "zh")
    )
    translated = {row["hexcode"]: row for row in chinese}
    found = []
    for row in english:
        code = _code(row["hexcode"])
        if row.get("group", COMPONENTS) == COMPONENTS or not all(code in table for table in files.values()):
            continue
        other = translated[row["hexcode"]]
        found.append(
            {
                "code": code,
                "en": row["label"],
                "zh": other["label"],
                "captions": [
                    row["label"],
                    other["label"],
                    ", ".join([row["label"], *row.get("tags", [])]),
                    "，".join([other["label"], *other.get("tags", [])]),
                ],
                "part": _part(code),
                "files": {name: table[code] for name, table in files.items()},
            }
        )
    return found


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    return {_code(path.stem): path for path in folder.glob(f"*{suffix}")}


def _code(name: str) -> str:
    return "-".join(part for part in name.lower().split("-") if part != "fe0f")


def _part(code: str) -> str:
    draw = int(hashlib.sha256(code.encode()).hexdigest(), 16) % 20
    return "test" if draw < 2 else "validation" if draw == 2 else "train"


def rows(emoji: list[dict[str, Any]], output: Path, sets: tuple[str, ...]) -> Iterator[str]:
    """Lines of a file of captioned pictures, paths relative to ``output``."""
    for name in sets:
        for item in emoji:
            row = {"path": os.path.relpath(item["files"][name], output), "captions": item["captions"]}
            row |= {"code": item["code"], "en": item["en"], "zh": item["zh"], "set": name}
            yield json.dumps(row, ensure_ascii=False) + "\n"


def draw_openmoji(emoji: list[dict[str, Any]], folder: Path) -> None:
    """OpenMoji's SVG files as PNG."""
    import resvg_py

    folder.mkdir(parents=True, exist_ok=True)
    for item in emoji:
        path = folder / f"{item['code']}.png"
        if not path.exists():
            path.write_bytes(
                bytes(resvg_py.svg_to_bytes(svg_path=str(item["files"]["openmoji"]), width=SIDE))
            )
        item["files"]["openmoji"] = path


def main() -> None:
    """Write train, validation and test files."""
    fetched, output = (Path(argument).resolve() for argument in sys.argv[1:3])
    output.mkdir(parents=True, exist_ok=True)
    emoji = read_emoji(fetched)
    draw_openmoji(emoji, output / "openmoji")
    for part in ("train", "validation", "test"):
        chosen = [item for item in emoji if item["part"] == part]
        lines = list(rows(chosen, output, ("fluent", "google")))
        (output / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{part}: {len(chosen)} emoji, {len(lines)} pictures")
    lines = list(rows(emoji, output, ("fluent", "google", "openmoji")))
    (output / "all.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
