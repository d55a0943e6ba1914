"""``embed`` on a folder of pictures: those that cannot be read are left out and listed."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jaspertc.cli.progress import progress, say

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCK = 64


def embed_pictures(
    folder: Path, output: Path, *, load: dict[str, Any], encode: dict[str, Any], resume: bool, overwrite: bool
) -> None:
    """Write the vectors of a folder's pictures, by path, and OUTPUT.bad.jsonl for those without one.

    Args:
        load: arguments of ``Embedder.load``.
        encode: arguments of ``Embedder.encode_image``.
    """
    from jaspertc.corpus.pictures import SUFFIXES, picture_files
    from jaspertc.corpus.write import BlockStore, check_target
    from jaspertc.engine.embedder import Embedder
    from jaspertc.files.folders import identity_of

    check_target(output, overwrite=overwrite)
    files = picture_files(folder)
    model = Embedder.load(**load)
    if encode["tokens"] is None:
        encode = {**encode, "tokens": model.pictures.tower.config.tokens}
    no_vectors = model.encode_image([], **encode)
    settings = {**encode, "model": model.pictures.fingerprint, "runtime": model.runtime.name}
    started, bad = time.monotonic(), BadList(output.with_name(output.name + ".bad.jsonl"))
    with BlockStore(
        output, settings, identity_of(folder, SUFFIXES), resume=resume, overwrite=overwrite
    ) as store:
        if not store.rows:
            bad.clear()
        begin = bad.attempted(store.rows)
        with progress("embedding", len(files), done=begin, unit="pictures") as advance:
            for first in range(begin, len(files), BLOCK):
                images, names = [], []
                for number, path in enumerate(files[first : first + BLOCK], first):
                    name = path.relative_to(folder).as_posix()
                    for image in bad.readable(number, name, path):
                        images.append(image)
                        names.append(name)
                if images:
                    store.add(model.encode_image(images, **encode), names)
                advance(min(BLOCK, len(files) - first))
        store.finish(no_vectors)
        rows = store.rows
    if bad.rows:
        say(f"warning: {len(bad.rows)} of {len(files)} pictures got no vector: {bad.path}")
    typer.echo(f"{rows} pictures in {time.monotonic() - started:.1f} s: {output}", err=True)


class BadList:
    """The pictures that could not be read, with their places among all, in a file beside the output."""

    def __init__(self, path: Path) -> None:
        from jaspertc.files.json_lines import read_log

        self.path = path
        self.rows: list[dict[str, Any]] = read_log(path)

    def clear(self) -> None:
        """Forget those of an earlier run."""
        self.rows = []
        self.path.unlink(missing_ok=True)

    def attempted(self, vectors: int) -> int:
        """How many pictures an interrupted run with so many vectors was through with."""
        slot = vectors
        for row in self.rows:
            slot += row["place"] <= slot
        return slot

    def readable(self, number: int, name: str, path: Path) -> "Iterator[Image]":
        """The picture, or nothing, and then it is listed."""
        from jaspertc.corpus.pictures import read_picture
        from jaspertc.errors import PictureError

        try:
            yield read_picture(path)
        except PictureError as error:
            if all(row["place"] != number for row in self.rows):
                self.rows.append({"place": number, "id": name, "error": str(error)})
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(self.rows[-1], ensure_ascii=False) + "\n")
