"""Under mteb's protocol a checkpoint scores as it does through mteb's own loader; prompts are right."""

import warnings

import numpy as np
import pytest

pytest.importorskip("mteb")

from jaspertc import Embedder
from jaspertc.errors import InputError
from jaspertc.evaluation.contenders import Swept
from jaspertc.evaluation.encoder import Encoder
from jaspertc.evaluation.library import mteb
from jaspertc.evaluation.local_data import KINDS, build_task
from jaspertc.evaluation.local_tasks import SAMPLES, read_local_tasks
from jaspertc.evaluation.prompts import follows_instructions, max_length_of, prompt_of
from jaspertc.evaluation.subsets import clone

INSTRUCTED = {"query": "Instruct: Given a web search query\nQuery: ", "document": ""}
STS = "Instruct: Retrieve semantically similar text\nQuery: "


@pytest.fixture(scope="module")
def theirs(prompted):
    """mteb's loader for sentence-transformers, on our checkpoint."""
    library = pytest.importorskip("sentence_transformers")
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = library.SentenceTransformer(str(prompted), trust_remote_code=True, device="cpu")
        return SentenceTransformerEncoderWrapper(model)


@pytest.fixture(scope="module")
def ours(prompted):
    return Swept(Embedder.load(prompted, device="cpu", dtype="float32"), [0.5])


def scored(model, task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"batch_size": 16, "show_progress_bar": False}
        found = mteb().evaluate(model, clone(task), cache=None, co2_tracker=False, encode_kwargs=options)
    return found.task_results[0].get_score()


@pytest.mark.parametrize("kind", ["sts", "pair", "classification", "clustering", "bitext", "retrieval"])
def test_same_score_as_through_mtebs_own_loader(local_folder, ours, theirs, kind):
    folder, tasks = read_local_tasks(local_folder)
    task = build_task(next(task for task in tasks if task.kind == kind), folder)
    mine, their = scored(Encoder(ours.contenders[0]), task), scored(theirs, task)
    assert mine == pytest.approx(their, abs=0.0005)  # 0.05 points
    assert 0 < abs(mine) < 1
    # The metric is mteb's, nothing of it is ours.
    assert not {"evaluate", "_evaluate_subset", "_compute_metrics"} & set(vars(type(task)))
    assert type(task).__bases__ == (getattr(mteb().abstasks, KINDS[kind].base),)


def test_the_samples_of_the_package_are_tasks():
    folder, tasks = read_local_tasks(SAMPLES)
    built = [build_task(task, folder) for task in tasks]
    assert {task.group for task in built} == {kind.group for kind in KINDS.values()}
    assert {tuple(task.metadata.languages) for task in built} == {("eng", "zho")}


def test_prompts_of_mtebs_entry():
    from mteb.types import PromptType

    def prompt(task, kind=None):
        return prompt_of(INSTRUCTED, mteb().get_task(task).metadata, kind)

    assert follows_instructions(INSTRUCTED)
    assert max_length_of(INSTRUCTED) == 1024
    assert prompt("STSBenchmark") == STS
    query = prompt("FiQA2018", PromptType.query)
    assert query.startswith("Instruct: Given a financial question")
    assert query.endswith("\nQuery: ")
    assert prompt("FiQA2018", PromptType.document) == ""
    assert prompt("ArguAna", PromptType.document) == prompt("ArguAna", PromptType.query) != ""
    assert prompt("Banking77Classification").startswith("Instruct: Given a online banking query")


def test_prompts_of_a_local_task(local_folder):
    from mteb.types import PromptType

    folder, tasks = read_local_tasks(local_folder)
    built = {task.kind: build_task(task, folder).metadata for task in tasks}
    assert prompt_of(INSTRUCTED, built["sts"], None) == STS.replace("text\n", "text.\n")  # mteb's default
    assert "web search query" in prompt_of(INSTRUCTED, built["retrieval"], PromptType.query)
    assert prompt_of(INSTRUCTED, built["retrieval"], PromptType.document) == ""


def test_prompts_of_other_checkpoints():
    from mteb.types import PromptType

    own = {"query": "query: ", "document": "passage: "}
    assert prompt_of(own, None, None) == "query: "
    assert prompt_of(own, None, PromptType.query) == "query: "
    assert prompt_of(own, None, PromptType.document) == "passage: "
    assert prompt_of({"passage": "p: "}, None, PromptType.document) == "p: "
    assert prompt_of({}, None, PromptType.query) == ""
    assert max_length_of(own) is None


@pytest.mark.filterwarnings("ignore:.*positions and were compressed further")
def test_reuse_across_ratios_changes_nothing(prompted, sentences):
    model = Embedder.load(prompted, device="cpu", dtype="float32")
    texts = ["a", "short one", *sentences, *(" ".join(sentences[:n]) for n in (2, 3))]
    swept = Swept(model, [1.0, 0.5, 0.1], threshold=20)
    for contender in swept.contenders:
        for _ in range(2):
            expected = model.encode(texts, prompt="Find: ", ratio=contender.ratio, threshold=20)
            np.testing.assert_allclose(contender.embed(texts, "Find: "), expected, rtol=0, atol=1e-5)
    assert 0 < len(swept._kept) < len(texts)
    assert [contender.label for contender in swept.contenders] == ["small @ 1", "small @ 0.5", "small @ 0.1"]


def test_a_model_without_compressor_has_one_ratio(hugging_face):
    model = Embedder.load(hugging_face("bert")[0], device="cpu")
    assert Swept(model, [1.0]).contenders[0].ratio == 1
    with pytest.raises(InputError, match=r"no compressor.*ratio 1"):
        Swept(model, [1.0, 0.5])
