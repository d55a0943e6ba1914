"""A static page that runs an exported model in the browser: ``jaspertc demo --web``."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from jaspertc.errors import CheckpointError, InputError, MissingExtraError
from jaspertc.files.aside import written_aside
from jaspertc.samples import load_samples

PACKAGES = {
    "onnxruntime-web": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "@huggingface/tokenizers": ("tokenizers.min.mjs",),
}
RANGES = {"onnxruntime-web": "^1.20.0", "@huggingface/tokenizers": "^0.2.0"}
BESIDE = ("tokenizer.json", "tokenizer_config.json")


def write_site(
    folder: Path, model: str, *, node_modules: Path | None = None, overwrite: bool = False
) -> Path:
    """Write the page, its model and the two packages it runs on: a folder for any static host.

    Args:
        folder: made if needed.
        model: an exported .onnx file, with its tokenizer beside it; or a checkpoint, exported in int8.
        node_modules: where npm has installed the packages; left out, they are fetched with npm.
        overwrite: replace files in a folder that is not empty.

    Raises:
        CheckpointError: folder or model cannot be used.
        InputError: npm or the packages are missing.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; choose a folder")
    if folder.exists() and not overwrite and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty; choose another folder, or --overwrite")
    with _packages(node_modules) as packages, tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch)
        _vendor(packages, page / "vendor")
        _write_model(page / "model", model)
        for item in files("jaspertc.export").joinpath("web").iterdir():
            (page / item.name).write_bytes(item.read_bytes())
        samples = {name: load_samples(name) for name in ("passages", "questions")}
        (page / "samples.json").write_bytes(json.dumps(samples, ensure_ascii=False).encode())
        for path in filter(Path.is_file, page.rglob("*")):
            _copy(path, folder / path.relative_to(page))
    return folder


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as content, written_aside(path) as file:
        shutil.copyfileobj(content, file)


def _write_model(folder: Path, model: str) -> None:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "export", "writing the page") from error
    folder.mkdir()
    out = folder / "model.onnx"
    if model.endswith(".onnx"):
        proto = _without_defaults(Path(model))
        for name in BESIDE:
            source = Path(model).parent / name
            if not source.is_file():
                raise CheckpointError(f"{source} is missing; export the model again: jaspertc export")
            shutil.copyfile(source, folder / name)
        out.write_bytes(proto.SerializeToString())
    else:
        from jaspertc.export.write import export

        export(model, out, weights="int8", defaults=False)
        proto = onnx.load(str(out))
    facts: dict[str, Any] = {
        item.key.removeprefix("jaspertc."): item.value
        for item in proto.metadata_props
        if item.key.startswith("jaspertc.")
    }
    numbers = {key: json.loads(facts[key]) if key in facts else None for key in NUMBERS}
    facts |= {**numbers, "bytes": out.stat().st_size}
    (folder / "facts.json").write_bytes(json.dumps(facts, ensure_ascii=False).encode())


NUMBERS = ("ratio", "threshold", "positions", "dims", "prompts")


def _without_defaults(path: Path) -> Any:
    """An exported graph whose ratio and threshold must be given: JavaScript cannot give them otherwise."""
    import onnx

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; write it with jaspertc export")
    proto = onnx.load(str(path), load_external_data=False)
    if any(item.data_location == onnx.TensorProto.EXTERNAL for item in proto.graph.initializer):
        raise CheckpointError(f"{path} keeps its weights in another file: too large for a page; export int8")
    if not any(item.key == "jaspertc.version" for item in proto.metadata_props):
        raise CheckpointError(f"{path} was not written by jaspertc export")
    for item in [item for item in proto.graph.initializer if item.name in ("ratio", "threshold")]:
        proto.graph.initializer.remove(item)
    return proto


@contextmanager
def _packages(node_modules: Path | None) -> Iterator[Path]:
    """A node_modules folder that has the packages."""
    if node_modules is not None:
        yield node_modules
        return
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(
            f"npm is not installed; install it, or give --node-modules, a folder with {', '.join(PACKAGES)}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        wanted = [f"{name}@{versions}" for name, versions in RANGES.items()]
        command = [
            npm,
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
            scratch,
            *wanted,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"npm could not fetch {', '.join(wanted)}: {done.stderr.strip()[-400:]}")
        yield Path(scratch) / "node_modules"


def _vendor(packages: Path, folder: Path) -> None:
    folder.mkdir()
    for package, names in PACKAGES.items():
        for name in names:
            source = packages / package / "dist" / name
            if not source.is_file():
                raise InputError(f"{source} is missing; npm install {package}@{RANGES[package]!r} there")
            shutil.copyfile(source, folder / name)
        for licence in (packages / package).glob("LICEN[CS]E*"):
            shutil.copyfile(licence, folder / f"{package.rsplit('/', 1)[-1]}-{licence.name}")
