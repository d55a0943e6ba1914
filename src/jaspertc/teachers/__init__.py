"""Models whose vectors a student learns, by kind. To add one: a file here and a line in ``TEACHERS``."""

import logging

from jaspertc.errors import ConfigError
from jaspertc.teachers.base import Teacher, TeacherConfig
from jaspertc.teachers.jaspertc import JaspertcTeacher
from jaspertc.teachers.openai import OpenAITeacher
from jaspertc.teachers.sentence_transformers import SentenceTransformersTeacher
from jaspertc.teachers.use import USETeacher
from jaspertc.teachers.vllm import VLLMTeacher

logger = logging.getLogger(__name__)

TEACHERS: dict[str, type[Teacher]] = {
    "jaspertc": JaspertcTeacher,
    "sentence-transformers": SentenceTransformersTeacher,
    "openai": OpenAITeacher,
    "use": USETeacher,
    "vllm": VLLMTeacher,
}


def teacher_kinds() -> dict[str, type[TeacherConfig]]:
    """The class of the table of each kind."""
    return {kind: teacher.Config for kind, teacher in TEACHERS.items()}


def load_teacher(config: TeacherConfig) -> Teacher:
    """The teacher of a recipe's table, ready to encode.

    Raises:
        ConfigError: its vectors have another width than ``dims`` says.
        JasperError: it cannot be loaded or reached; see the kind's class.
    """
    teacher = TEACHERS[config.kind](config)
    if config.dims is not None and config.dims != teacher.dims:
        raise ConfigError(
            f"teacher {config.name!r}: dims is {config.dims}, the model gives {teacher.dims}; "
            "correct dims or model"
        )
    logger.info("teacher %s: %s, %d dimensions", config.name, teacher.identity["model"], teacher.dims)
    return teacher


__all__ = [
    "TEACHERS",
    "JaspertcTeacher",
    "OpenAITeacher",
    "SentenceTransformersTeacher",
    "Teacher",
    "TeacherConfig",
    "USETeacher",
    "VLLMTeacher",
    "load_teacher",
    "teacher_kinds",
]
