"""Runs contenders over tasks; what is finished is never computed again."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError, InputError, JasperError
from jaspertc.evaluation import latency, subsets
from jaspertc.evaluation.contenders import Contender, Swept
from jaspertc.evaluation.encoder import Encoder, model_meta
from jaspertc.evaluation.library import mteb
from jaspertc.evaluation.store import RUN, SETTINGS, Score, Store, main_score, read_folder
from jaspertc.files.aside import writing
from jaspertc.files.json_files import write_json
from jaspertc.reports.origin import machine, versions

HEAT_MAP_PAIRS = 24


@dataclass(frozen=True)
class Job:
    """One task of one contender."""

    task: Any
    contender: Contender

    @property
    def name(self) -> str:
        """What a progress bar shows."""
        return f"{self.task.metadata.name}, {self.contender.label}"


class Lengths:
    """Tokens of one task's texts, counted once, with the main model's tokenizer and no prompt."""

    def __init__(self, count: Callable[[Sequence[str]], Sequence[int]]) -> None:
        self._count = count
        self.known: dict[str, int] = {}

    def of(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, self._count(new) if new else []))
        return [self.known[text] for text in texts]


class Evaluation:
    """All that ``jaspertc evaluate`` has to do.

    Each result is on disk before the next task begins, so a killed run loses the task in hand at most.

    Args:
        model: the model under test, at its ratios.
        peers: further models.
        tasks: mteb's task objects.
        output: the folder of results.
        limit: items of each task, drawn with a fixed seed; ``None``: all.
        command: how the run is repeated, for the report.

    Raises:
        InputError: two contenders have one name, or the limit is out of range.
        DataFileError: the folder cannot be made.
    """

    def __init__(
        self,
        model: Swept,
        peers: Sequence[Contender],
        tasks: Sequence[Any],
        output: Path,
        *,
        limit: int | None = None,
        command: str = "",
    ) -> None:
        if limit is not None and limit < subsets.LEAST_ITEMS:
            raise InputError(f"--limit is {limit}, it must be at least {subsets.LEAST_ITEMS}")
        self.model, self.tasks, self.limit, self.command = model, tasks, limit, command
        self.contenders = [*model.contenders, *peers]
        labels = [contender.label for contender in self.contenders]
        for label in labels:
            if labels.count(label) > 1:
                raise InputError(
                    f"two contenders are called {label!r}; rename one with --name, or in a .toml file"
                )
        self.folder, self.store = output, Store(output)

    @property
    def jobs(self) -> list[Job]:
        """What is left."""
        jobs = [Job(task, contender) for task in self.tasks for contender in self.contenders]
        return [job for job in jobs if not self.store.done(model_meta(job.contender, self.limit), job.task)]

    def run(
        self,
        *,
        started: Callable[[Job], None] = lambda job: None,
        advance: Callable[[int], None] = lambda texts: None,
        finished: Callable[[Job, float], None] = lambda job, score: None,
    ) -> None:
        """Do what is left, task by task; ``advance`` is told of texts, ``finished`` of scores.

        Raises:
            DataFileError: the data of a task are not here and cannot be fetched, or results cannot be
                written.
        """
        with writing(self.folder):
            write_json(self.folder / RUN, self._facts())
        sample = latency.Sample(self.folder)
        for task, jobs in self._by_task():
            lengths = Lengths(self.model.lengths)
            prepared = self._prepared(task)
            parts = subsets.strata(prepared, lengths.of) if hasattr(task, "group") else {}
            for job in jobs:
                started(job)
                finished(job, self._run_job(job, prepared, parts, lengths, advance))
            for contender in self.contenders:
                contender.forget()
            if not sample.has(task.metadata.name):
                sample.add(task.metadata.name, lengths.known)
            task.unload_data()

    def time(self, started: Callable[[str], None] = lambda label: None) -> dict[str, Any]:
        """Measure time per text; see ``latency.measure``."""
        sample = latency.Sample(self.folder)
        return latency.measure(self.folder, self.contenders, sample, machine(), started=started)

    def scores(self) -> list[Score]:
        """The results of these very contenders and tasks.

        Raises:
            DataFileError: there is none, or a file is damaged.
        """
        names = {task.metadata.name for task in self.tasks}
        settings = {(item.label, *item.settings.values(), self.limit) for item in self.contenders}
        keys = ("label", *SETTINGS)
        return [
            score
            for score in read_folder(self.folder).scores
            if score.task in names and tuple(score.facts.get(key) for key in keys) in settings
        ]

    def _by_task(self) -> Iterator[tuple[Any, list[Job]]]:
        jobs = self.jobs
        for task in self.tasks:
            mine = [job for job in jobs if job.task is task]
            if mine:
                yield task, mine

    def _prepared(self, task: Any) -> Any:
        """The task with its data, limited."""
        try:
            if not task.data_loaded:
                task.load_data()
        except JasperError:
            raise
        except Exception as error:  # the library raises many kinds, by cause
            raise DataFileError(
                f"the data of task {task.metadata.name!r} are not here and could not be fetched "
                f"({type(error).__name__}: {str(error)[:200]}); run it once where the hub can be reached, "
                "or evaluate local data with --local or --data"
            ) from error
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
        return task if self.limit is None else subsets.limited(task, self.limit)

    def _run_job(
        self, job: Job, task: Any, parts: dict[str, Any], lengths: Lengths, advance: Callable[[int], None]
    ) -> float:
        encoder = Encoder(job.contender, limit=self.limit, seen=lengths.of, advance=advance)
        options: dict[str, Any] = {"batch_size": 1024, "show_progress_bar": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = mteb().evaluate(
                encoder, subsets.clone(task), co2_tracker=False, encode_kwargs=options, cache=None,
                show_progress_bar=False,
            )  # fmt: skip
            result = results.task_results[0]
            score = main_score(result.to_dict())
            seconds, texts = encoder.seconds, encoder.texts
            strata = {
                name: {"items": count, "score": self._part_score(encoder, part, task, score, options)}
                for name, (count, part) in parts.items()
            }
            facts = self._job_facts(job, task, lengths) | {
                "seconds": seconds,
                "texts": texts,
                "strata": strata,
                "similarity": self._similarity(encoder, task),
            }
        self.store.write(encoder.mteb_model_meta, result, facts)
        return score

    def _part_score(
        self, encoder: Encoder, part: Any, task: Any, score: float, options: dict[str, Any]
    ) -> float | None:
        if part is None or part is task:
            return score if part is task else None
        scores = subsets.clone(part).evaluate(encoder, split=part.eval_splits[0], encode_kwargs=options)
        return float(next(iter(scores.values()))["main_score"])

    def _job_facts(self, job: Job, task: Any, lengths: Lengths) -> dict[str, Any]:
        contender = job.contender
        known = list(lengths.known.values())
        tokens_kept = None
        if contender.ratio is not None and known:
            targets = self.model.model.target_lengths(
                _array(known), ratio=contender.ratio, threshold=contender.threshold
            )
            tokens_kept = float(targets.sum() / max(1, sum(known)))
        return {
            "name": contender.name,
            "label": contender.label,
            "ratio": contender.ratio,
            **contender.settings,
            "dims": contender.dims,
            "megabytes": contender.megabytes,
            "group": getattr(task, "group", task.metadata.type),
            "languages": task.metadata.languages,
            "main_score": task.metadata.main_score,
            "items": subsets.items(task),
            "limit": self.limit,
            "seed": subsets.SEED if self.limit is not None else None,
            "tokens": sum(known),
            "share_kept": tokens_kept,
        }

    def _similarity(self, encoder: Encoder, task: Any) -> dict[str, Any] | None:
        """Cosines of some sentences and their translations, for a heat map."""
        if task.metadata.type != "BitextMining" or not hasattr(task, "group"):
            return None
        data = task.dataset[task.eval_splits[0]]
        pairs = [data[number] for number in range(0, len(data), max(1, len(data) // HEAT_MAP_PAIRS))]
        sides = [[pair[name] for pair in pairs[:HEAT_MAP_PAIRS]] for name in ("sentence1", "sentence2")]
        vectors = [
            encoder.encode([{"text": side}], task_metadata=task.metadata, hf_split="", hf_subset="")
            for side in sides
        ]
        cosines = encoder.similarity(*vectors).tolist()
        return {"texts": sides, "cosines": [[round(value, 4) for value in row] for row in cosines]}

    def _facts(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "model": self.contenders[0].name,
            "tasks": [task.metadata.name for task in self.tasks],
            "limit": self.limit,
            "machine": machine(),
            "versions": versions("jaspertc", "mteb", "torch", "numpy", "scikit-learn"),
        }


def _array(values: Sequence[int]) -> Any:
    import numpy as np

    return np.asarray(values, dtype=np.int64)
