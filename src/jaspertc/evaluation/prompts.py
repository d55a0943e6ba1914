"""Which prompt a text gets in an evaluation."""

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from jaspertc.evaluation.library import mteb

RELEASED = "infgrad/Jasper-Token-Compression-600M"
INSTRUCTION = "Instruct: "


def follows_instructions(prompts: Mapping[str, str]) -> bool:
    """Whether a checkpoint's own ``query`` prompt is an instruction, as the released model's is."""
    return prompts.get("query", "").startswith(INSTRUCTION)


def prompt_of(prompts: Mapping[str, str], metadata: Any, prompt_type: Any) -> str:
    """The text put before each text of a task.

    - A checkpoint that follows instructions gets the instruction of mteb's own entry for the released model:
      the task's, before every text of a symmetric task, and in retrieval before queries only, with that
      entry's exceptions. A task that the entry does not name has the instruction of its metadata.
    - Any other gets its own prompts: in retrieval ``query`` before queries and ``document`` before documents,
      else ``query`` before every text, as the E5 models want it.

    Args:
        prompts: the checkpoint's prompts by name.
        metadata: mteb's description of the task.
        prompt_type: mteb's: query, document, or ``None`` in a symmetric task.
    """
    if follows_instructions(prompts):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mteb warns of each document without an instruction
            return str(_released_rule().get_task_instruction(metadata, prompt_type) or "")
    if prompt_type is None or prompt_type.value == "query":
        return prompts.get("query", "")
    return prompts.get("document", prompts.get("passage", ""))


def max_length_of(prompts: Mapping[str, str]) -> int | None:
    """Tokens kept of each text: as many as mteb's entry keeps, for a checkpoint that follows instructions."""
    if not follows_instructions(prompts):
        return None
    length: int = mteb().get_model_meta(RELEASED).loader_kwargs["max_seq_length"]
    return length


@cache
def _released_rule() -> Any:
    mteb()
    from mteb.models.abs_encoder import AbsEncoder

    settings = mteb().get_model_meta(RELEASED).loader_kwargs

    class Rule(AbsEncoder):  # type: ignore[misc]
        prompts_dict = settings["prompts_dict"]
        instruction_template = settings["instruction_template"]

        def encode(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    return Rule()
