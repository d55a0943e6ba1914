"""A contender under mteb's protocol for encoders.

Shape legend: N texts, E width of the vectors.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaspertc.evaluation.contenders import Contender
from jaspertc.evaluation.library import mteb
from jaspertc.types import FloatArray

CHUNK = 1024  # texts between two signs of life


class Encoder:
    """Embeds what mteb's tasks ask for; within one task each text is embedded once a prompt.

    Attributes:
        contender: the model.
        mteb_model_meta: how mteb describes it; decides where results are kept.
        texts: number of texts embedded.
        seconds: time that took, the reuse of vectors across ratios included.
    """

    def __init__(
        self,
        contender: Contender,
        *,
        limit: int | None = None,
        seen: Callable[[Sequence[str]], object] = lambda texts: None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """``seen`` is told of all texts, ``advance`` how many more are done."""
        self.contender = contender
        self.mteb_model_meta = model_meta(contender, limit)
        self.texts, self.seconds = 0, 0.0
        self._seen, self._advance = seen, advance
        self._vectors: dict[tuple[str, str], FloatArray] = {}

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> FloatArray:
        """Vectors of the texts in mteb's batches, shape (N, E), float32."""
        texts: list[str] = [text for batch in inputs for text in batch["text"]]
        prompt = self.contender.prompt(task_metadata, prompt_type)
        missing = [text for text in dict.fromkeys(texts) if (prompt, text) not in self._vectors]
        self._seen(missing)
        missing.sort(key=len)  # so that a chunk fills batches of like lengths
        for begin in range(0, len(missing), CHUNK):
            chunk = missing[begin : begin + CHUNK]
            started = time.perf_counter()
            vectors = self.contender.embed(chunk, prompt)
            self.seconds += time.perf_counter() - started
            self.texts += len(chunk)
            self._vectors.update(((prompt, text), vector) for text, vector in zip(chunk, vectors))
            self._advance(len(chunk))
        if not texts:
            return np.empty((0, self.contender.dims), dtype=np.float32)
        return np.stack([self._vectors[prompt, text] for text in texts])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of all pairs."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of corresponding vectors."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)


def model_meta(contender: Contender, limit: int | None = None) -> Any:
    """mteb's description of a contender; its settings are its ``experiment_kwargs``."""
    mteb()
    from mteb.models.model_meta import ModelMeta

    settings = {
        "runtime": contender.runtime and contender.runtime.replace(" ", "_"),
        "ratio": contender.ratio,
        "threshold": contender.threshold,
        "limit": limit,
    }
    return ModelMeta(
        loader=None,
        name=f"local/{contender.name}",
        revision=contender.revision,
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=None,
        embed_dim=contender.dims,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=bool(any(contender.prompts.values())),
        training_datasets=None,
        experiment_kwargs={key: value for key, value in settings.items() if value is not None} or None,
    )
