"""``python -m lab.compare``: measurements are kept as they come, gone on with, and shown in three formats."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib")
pytest.importorskip("psutil")
pytest.importorskip("transformers")

from jaspertc.errors import DataFileError, InputError, MissingExtraError, RatioError
from lab.compare import measure
from lab.compare.__main__ import app
from lab.compare.store import Results, read_results

SMALL = ["--texts", "3", "--lengths", "16,40", "--ratios", "1,0.3", "--rounds", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def _quick_products(monkeypatch):
    monkeypatch.setattr("lab.compare.measure.gemm_rate", lambda precision, shape, device: 1e9)


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def peer_file(folder, peer):
    """A file of peers with this one."""
    file = folder / "peers.toml"
    file.write_text(f'[[peers]]\nname = "e5"\nkind = "sentence-transformers"\nmodel = "{peer}"\n')
    return file


def test_results_in_three_formats(model_folder, hugging_face, tmp_path):
    peer, _ = hugging_face("bert")
    out = tmp_path / "out"
    arguments = [model_folder, "--output", out, *SMALL, "--peer", peer_file(tmp_path, peer)]
    names = "ours,padded-fp32,plain,st-torch,st-onnx"
    arguments += ["--protocol", "table4,mix,query"]
    result = run(*arguments, "--contender", names)
    assert "4 parts, 2 rounds and one to warm up: " in result.stderr
    content = read_results(out)
    assert list(content["units"]) == ["table4/16", "table4/40", "mix", "query"]
    assert all(len(unit["rounds"]) == 2 for unit in content["units"].values())
    skipped = list(content["skipped"])
    assert list(content["contenders"]) == [name for name in [*names.split(","), "e5"] if name not in skipped]
    assert skipped in ([], ["st-onnx"])
    if skipped:
        assert "left out: st-onnx: its backend 'onnx' needs packages not installed" in result.stderr
    assert str(tmp_path) not in json.dumps(content)
    cells = content["units"]["table4/40"]["cells"]
    assert cells["ours @ 0.3"]["computed"] == cells["padded-fp32 @ 0.3"]["computed"] == 3 * 17
    assert cells["ours @ 0.3"]["tokens"] == 3 * 40
    assert cells["ours @ 0.3"]["cosine"] > 0.99999
    assert cells["ours @ 0.3"]["flops"] < cells["plain"]["flops"]
    assert cells["st-torch"]["cosine"] > 0.99
    assert "cosine" not in cells["plain"] | cells["e5"]

    page = (out / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    markdown = (out / "report.md").read_text()
    for name in ("table4", "mix", "query"):
        assert f"(pictures/{name}.png)" in markdown
        assert (out / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "| padded-fp32 @ 0.3 | float32 |" in markdown
    assert "| e5 |" in markdown

    again = run(*arguments, "--contender", names)
    assert "0 measurements left" in again.stderr
    assert read_results(out)["units"] == content["units"]


@pytest.mark.slow
def test_start_in_fresh_processes(model_folder, hugging_face, tmp_path):
    whole, _ = hugging_face("bert")
    peer = tmp_path / "peer"  # without a tokenizer_config.json, which is made for it
    peer.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(whole / name, peer)
    out = tmp_path / "out"
    options = ["--protocol", "start", "--rounds", "1", "--threads", "1", "--contender", "ours"]
    result = run(model_folder, "--output", out, *options, "--peer", peer_file(tmp_path, peer))
    assert "1 parts, 1 rounds and one to warm up: 4 measurements left" in result.stderr
    cells = read_results(out)["units"]["start"]["rounds"][0]["cells"]
    for name in ("ours", "e5"):
        assert set(cells[name]) == {"load", "first", "resident_mb", "peak_mb"}
        assert 0 < cells[name]["resident_mb"] <= cells[name]["peak_mb"] * 1.01
        assert min(cells[name]["load"], cells[name]["first"]) > 0
        assert f"| {name} |" in (out / "report.md").read_text()


def test_an_interrupted_run_goes_on(model_folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    chosen = ["--protocol", "mix,query", "--contender", "ours,plain"]
    arguments = [model_folder, "--output", out, *SMALL, *chosen]
    kept = Results.add_round

    def interrupted(self, unit, *measured):
        kept(self, unit, *measured)
        if unit.key == "query":
            raise KeyboardInterrupt

    monkeypatch.setattr(Results, "add_round", interrupted)
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code != 0
    assert "the same command goes on" in result.stderr
    before = read_results(out)["units"]
    assert (len(before["mix"]["rounds"]), len(before["query"]["rounds"])) == (2, 1)

    monkeypatch.setattr(Results, "add_round", kept)
    timed = []
    time = measure._time

    def counted(contender, calls, ratio):
        timed.append(contender.spec.name)
        return time(contender, calls, ratio)

    monkeypatch.setattr(measure, "_time", counted)
    result = run(*arguments)
    assert ": 4 measurements left" in result.stderr  # two contenders, to warm up and once more
    assert timed == ["ours", "plain"]
    after = read_results(out)["units"]
    assert after["mix"] == before["mix"]
    assert after["query"]["rounds"][:1] == before["query"]["rounds"]
    assert len(after["query"]["rounds"]) == 2

    more = run(*arguments, "--rounds", "3")
    assert ": 10 measurements left" in more.stderr
    assert [len(unit["rounds"]) for unit in read_results(out)["units"].values()] == [3, 3]


def test_random_weights_of_the_released_shape(tmp_path, monkeypatch):
    import dataclasses

    from jaspertc.model import shapes

    small = {"vocab_size": 60, "hidden_size": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    backbone = dataclasses.replace(shapes.SHAPES["Qwen3-0.6B"], **small, intermediate_size=24)
    monkeypatch.setitem(shapes.SHAPES, "Qwen3-0.6B", backbone)
    out = tmp_path / "out"
    options = ["--shape", "600m", "--layers", "1", "--output", out, *SMALL]
    result = run(*options, "--contender", "ours-torch-fp32,padded-fp32,st-torch", "--protocol", "table4")
    content = read_results(out)
    assert content["inputs"] == "random token ids"
    assert "left out: st-torch: it takes texts" in result.stderr
    assert content["units"]["table4/40"]["cells"]["ours-torch-fp32 @ 0.3"]["cosine"] > 0.9999
    assert "# Speed of random 600m, 1 layers" in (out / "report.md").read_text()


def test_mistakes_are_named(model_folder, hugging_face, tmp_path):
    out = tmp_path / "out"
    base = [model_folder, "--output", out, *SMALL, "--protocol", "mix", "--contender", "ours"]
    run(*base)
    with pytest.raises(InputError, match="settings texts was 3, is 4"):
        run(*base, "--texts", "4")
    with pytest.raises(InputError, match=r'settings contenders was \["ours"\]'):
        run(*base, "--contender", "ours-torch-fp32")
    with pytest.raises(InputError, match="given together"):
        run(model_folder, "--shape", "600m", "--output", out)
    with pytest.raises(InputError, match="integers between commas"):
        run(*base, "--lengths", "12,x")
    with pytest.raises(RatioError, match="2"):
        run(*base, "--ratios", "2")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="other files"):
        run(model_folder, "--output", tmp_path / "full", *SMALL)
    (out / "results.json").write_text("{")
    with pytest.raises(DataFileError, match=r"results\.json cannot be read"):
        run(*base)
    plain, _ = hugging_face("qwen3")
    with pytest.raises(InputError, match="512 positions and no compressor"):
        run(plain, "--output", tmp_path / "plain", "--lengths", "600")


def test_missing_packages_name_the_extra(model_folder, tmp_path, monkeypatch):
    found = __import__("importlib.util").util.find_spec
    for package in ("psutil", "matplotlib", "transformers"):
        monkeypatch.setattr(
            "lab.compare.contenders.find_spec",
            lambda name, missing=package: None if name == missing else found(name),
        )
        with pytest.raises(MissingExtraError, match=rf"{package}.*jaspertc\[bench\]"):
            run(model_folder, "--output", tmp_path / "out", *SMALL)


def test_a_process_that_fails_says_why(model_folder, tmp_path):
    from lab.compare.settings import Settings, Spec
    from lab.compare.starting import StartError, start_fresh

    spec = Spec(name="ours-torch-int4", kind="ours", runtime="torch", dtype="int4")
    with pytest.raises(StartError, match=r"ours-torch-int4 could .*'int4'"):
        start_fresh(spec, Settings(contenders=(spec,), threads=1), model_folder, "a text")
