"""From single scores to the means and series that tables and figures show."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jaspertc.evaluation.store import SETTINGS, Score
from jaspertc.evaluation.subsets import STRATA

GROUPS = {
    "STS": "STS",
    "PairClassification": "pairs",
    "Classification": "classification",
    "Clustering": "clustering",
    "BitextMining": "bitext",
    "Retrieval": "retrieval",
    "LongRetrieval": "long retrieval",
    "Reranking": "reranking",
    "Summarization": "summaries",
}
MEAN, TYPE_MEAN = "mean of tasks", "mean of types"


@dataclass(frozen=True)
class Summary:
    """Scores of several contenders. Means are over the tasks that all of them have."""

    scores: Sequence[Score]

    @cached_property
    def labels(self) -> list[str]:
        """The contenders: first those with a ratio, highest first, then peers, best first."""
        first = {score.label: score for score in reversed(self.scores)}

        def order(label: str) -> tuple[bool, str, float]:
            score = first[label]
            peer = score.ratio is None
            return peer, "" if peer else score.name, -(self.mean(label) or 0) if peer else -(score.ratio or 0)

        return sorted(first, key=order)

    @cached_property
    def groups(self) -> list[str]:
        """The kinds of tasks that are common to all contenders."""
        groups = {score.group for score in self.scores if score.task in self.common}
        return sorted(groups, key=lambda group: (list(GROUPS).index(group) if group in GROUPS else 99, group))

    @cached_property
    def tasks(self) -> list[str]:
        """All tasks, by kind."""
        order = {group: number for number, group in enumerate(GROUPS)}
        order_of = {score.task: order.get(score.group, 99) for score in self.scores}
        return sorted(order_of, key=lambda task: (order_of[task], task))

    @cached_property
    def common(self) -> frozenset[str]:
        """Tasks that every contender has."""
        by_label: dict[str, set[str]] = {}
        for score in self.scores:
            by_label.setdefault(score.label, set()).add(score.task)
        return frozenset(set.intersection(*by_label.values()))

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, str], Score]:
        return {(score.label, score.task): score for score in self.scores}

    def get(self, label: str, task: str) -> Score | None:
        """One score."""
        return self._by_key.get((label, task))

    def mean(self, label: str, group: str | None = None) -> float | None:
        """Mean score x 100 over the common tasks, of one kind or of all."""
        values = [
            100 * score.score
            for score in self.scores
            if score.label == label and score.task in self.common and group in (None, score.group)
        ]
        return statistics.fmean(values) if values else None

    def type_mean(self, label: str) -> float | None:
        """Mean x 100 of the means of the kinds of tasks."""
        means = [mean for group in self.groups if (mean := self.mean(label, group)) is not None]
        return statistics.fmean(means) if means else None

    def stratum_mean(self, label: str, stratum: str) -> float | None:
        """Mean score x 100 of the items of a length, over the tasks that have enough of them."""
        values = [
            100 * score.facts["strata"][stratum]["score"]
            for score in self.scores
            if score.label == label and score.task in self.in_stratum(stratum)
        ]
        return statistics.fmean(values) if values else None

    def in_stratum(self, stratum: str) -> frozenset[str]:
        """The common tasks with a score for items of this length."""
        return frozenset(
            task
            for task in self.common
            if all(
                score.facts.get("strata", {}).get(stratum, {}).get("score") is not None
                for score in self.scores
                if score.task == task
            )
        )

    @property
    def strata(self) -> list[str]:
        """The length strata with any score."""
        return [name for name in STRATA if self.in_stratum(name)]

    def stratum_items(self, stratum: str) -> int:
        """Items of a length that are scored."""
        first = self.labels[0]
        scores = [self.get(first, task) for task in self.in_stratum(stratum)]
        return sum(score.facts["strata"][stratum]["items"] for score in scores if score is not None)

    def facts(self, label: str) -> Mapping[str, Any]:
        """What the results of a contender say about it."""
        return next(score.facts for score in self.scores if score.label == label)

    def kept(self, label: str) -> float | None:
        """Share of the common tasks' tokens that compression keeps; ``None`` for a peer."""
        shares = [
            (score.facts["share_kept"], score.facts["tokens"])
            for score in self.scores
            if score.label == label
            and score.task in self.common
            and score.facts.get("share_kept") is not None
        ]
        total = sum(tokens for _, tokens in shares)
        return sum(share * tokens for share, tokens in shares) / total if total else None

    def times(self, latency: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """What ``latency.json`` has for each label, where it was measured with the label's settings."""
        known = latency.get("contenders", {})
        measured = {label: known.get(self.facts(label)["label"]) for label in self.labels}
        return {label: times for label, times in measured.items() if times and self._is_of(label, times)}

    def _is_of(self, label: str, times: Mapping[str, Any]) -> bool:
        facts = self.facts(label)
        if "revision" not in times:  # a file from before settings were kept, and runtimes with results
            return label == facts["label"] and facts.get("runtime") is None
        return all(times[key] == facts.get(key) for key in SETTINGS if key in times)

    def swept(self) -> dict[str, list[str]]:
        """Models with two or more ratios -> their labels, highest ratio first."""
        ratios: dict[str, list[str]] = {}
        for label in self.labels:
            ratio = self.facts(label)["ratio"]
            if ratio is not None:
                ratios.setdefault(label.replace(f" @ {ratio:g}", "", 1), []).append(label)
        return {name: labels for name, labels in ratios.items() if len(labels) > 1}


def distinct(scores: Iterable[Score]) -> list[Score]:
    """The scores, with labels that tell apart results of other weights, runtimes, thresholds or limits."""
    scores = list(scores)
    values: dict[tuple[str, bool, str], set[Any]] = {}  # a model's, at all of its ratios
    for score in scores:
        for key in SETTINGS:
            values.setdefault((score.name, score.ratio is None, key), set()).add(score.facts.get(key))
    renamed = []
    for score in scores:
        notes = [
            _note(key, score.facts.get(key))
            for key in SETTINGS
            if len(values[score.name, score.ratio is None, key]) > 1
        ]
        renamed.append(replace(score, label=f"{score.label} ({', '.join(notes)})") if notes else score)
    return renamed


def _note(key: str, value: Any) -> str:
    if key == "runtime" and value is None:
        return "runtime not recorded"
    return f"{key} {str(value)[:6] if key == 'revision' else value}"
