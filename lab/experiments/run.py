"""The report's experiments at a small size; README.md beside this file says what they are.

    python lab/experiments/run.py lab/experiments/stages.toml

A variant is the base recipe with changes. Variants of a seed share texts, their order, steps and start, and a
stage that is the same in several of them is trained once.
"""

import argparse
import copy
import hashlib
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from jaspertc.checkpoint import load_checkpoint
from jaspertc.checkpoint.parts import with_compressor
from jaspertc.config import Between
from jaspertc.errors import ConfigError, InputError, JasperError
from jaspertc.files.aside import written_aside
from jaspertc.recipe.reader import Reader
from jaspertc.recipe.recipe import Recipe, recipe_of, training_sections
from jaspertc.recipe.stages import StageConfig
from jaspertc.teaching.mining import PairMiner
from jaspertc.teaching.targets import Targets
from jaspertc.train.distributed import start_processes
from jaspertc.train.loop import DTYPES, StepReport
from jaspertc.train.run import Distillation
from jaspertc.train.saving import saved_states
from jaspertc.train.watching import Watch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "runs" / "experiments"
STEPS_A_LINE = 20

Tables = dict[str, Any]
Scores = Mapping[str, Mapping[str, float]]  # by ratio and measure


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The base recipe with changes.

    Args:
        stages: names of the base's stages, in order; left out, all of them.
        teachers: likewise.
        change: values by path; tables of a list go by their name, as in ``"stages.dynamic.ratio" = 0.33``.
        compressor: put on when all stages are done, with nothing trained.
    """

    name: str
    stages: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    change: Mapping[str, Any] = field(default_factory=dict)
    compressor: Literal["average"] | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Variants that are compared.

    Args:
        base: a recipe, relative to this file.
        ratios: compression ratios at which all variants are measured.
        primary: measures whose mean is compared, seed by seed, with the reference.
        reference: the variant that others are compared with; left out, the first. A single variant is
            compared with itself at the first ratio.
    """

    title: str
    base: Path
    variants: tuple[Variant, ...]
    ratios: tuple[Annotated[float, Between(1e-6, 1)], ...]
    primary: tuple[str, ...]
    reference: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    note: str = ""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ConfigError(f"variants are named {', '.join(names)}; names must differ")
        if self.reference and self.reference not in names:
            raise ConfigError(f"reference is {self.reference!r}, the variants are {', '.join(names)}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A variant with a seed."""

    experiment: Experiment
    variant: Variant
    recipe: Recipe
    base: Recipe  # without changes: all variants are measured with its targets
    keys: tuple[str, ...]  # names of the stages' folders, which equal stages share
    result: Path


class SharedRun(Distillation):
    """A run whose equal stages are those of other variants, and which is measured when all are done."""

    def __init__(self, recipe: Recipe, keys: Sequence[str], **settings: Any) -> None:
        self.keys = keys
        super().__init__(recipe, **settings)

    def folder(self, index: int) -> Path:
        """The folder of a stage."""
        return self.training.folder / self.keys[index]

    def validate(self, *_: object) -> None:
        """Left out: it would take as long as training."""

    def hand_over(self) -> None:
        """Left out: a stage's checkpoint is all that is measured."""


def read_toml(path: Path) -> Tables:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as TOML: {error}; give a file of lab/experiments/"
        ) from error


def plan(path: Path, experiment: Experiment, variant: Variant, seed: int, folder: Path) -> Plan:
    """What a variant is with this seed; ConfigError if it names what the base does not have."""
    content = read_toml(experiment.base)
    base = to_recipe(content, content, experiment.base, seed, folder)
    names = ["neighbours kept"]
    if base.validation:
        names += [f"{item.name} Spearman" for item in base.validation.sts]
        names += [f"{item.name} nDCG@10" for item in base.validation.retrieval]
    for name in experiment.primary:
        if name not in names:
            raise ConfigError(f"{path}: primary has {name!r}, measured are {', '.join(names)}")
    try:
        tables = changed(content, variant, seed)
        recipe = to_recipe(tables, content, experiment.base, seed, folder)
    except ConfigError as error:
        raise ConfigError(f"{path}, variant {variant.name!r}: {error}") from error
    keys = stage_keys(tables)
    measured = digest([keys[-1], variant.compressor, experiment.ratios, content])
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", f"{path.stem}-{variant.name}-seed-{seed}")
    result = folder / "results" / f"{slug}-{measured}.json"
    return Plan(
        experiment=experiment, variant=variant, recipe=recipe, base=base, keys=tuple(keys), result=result
    )


def changed(content: Tables, variant: Variant, seed: int) -> Tables:
    """The base's tables with a variant's changes."""
    tables = copy.deepcopy(content)
    for kind, wanted in (("stages", variant.stages), ("teachers", variant.teachers)):
        known = {table.get("name"): table for table in tables.get(kind, ())}
        for name in wanted:
            if name not in known:
                raise ConfigError(f"the base has no {name!r} among its {kind}: {', '.join(known)}")
        if wanted:
            tables[kind] = [known[name] for name in wanted]
    for path, value in variant.change.items():
        *way, key = path.split(".")
        table: Any = tables
        for step in way:
            if isinstance(table, list):
                table = {item.get("name"): item for item in table}
            if not isinstance(table, dict) or step not in table:
                raise ConfigError(
                    f"change has {path!r}, but there is no {step!r}; name a table that the variant keeps"
                )
            table = table[step]
        table[key] = value
    for stage in tables["stages"]:
        stage["seed"] = seed
    return tables


def stage_keys(tables: Tables) -> list[str]:
    """A name for each stage that says all that its result depends on."""
    common = {key: tables.get(key) for key in ("texts", "teachers", "fusion", "student", "mining")}
    held_out = tables["training"].get("held_out")
    stages = tables["stages"]
    return [
        f"{stage['name']}-{digest([common, held_out, stages[: index + 1]])}"
        for index, stage in enumerate(stages)
    ]


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def to_recipe(tables: Tables, content: Tables, base: Path, seed: int, folder: Path) -> Recipe:
    """The recipe in these tables, with its run in ``folder``; all variants share the base's negatives."""
    tables = copy.deepcopy(tables)
    name, starts = f"seed-{seed}", [part["student"]["model"] for part in (content, tables)]
    if starts[1] != starts[0]:  # its tokenizer may be another one, so its tokens are kept apart
        name += f"-{Path(starts[1]).name}"
    tables["training"]["folder"] = str(folder / name)
    if "mining" in tables:
        mined = digest([content.get(key) for key in ("texts", "teachers", "fusion", "mining")])
        tables["mining"]["output"] = str(folder / f"negatives-{mined}.jsonl.gz")
    for stage in tables.get("stages", []):
        if stage.get("compressor") == "none":
            stage.pop("mlp_size", None)  # a variant without compressor has no use for the base's keys of one
    return recipe_of(tables, base)


def carry_out(plan: Plan) -> None:
    """Train what is not trained yet, measure and keep the scores."""
    _, training = training_sections(plan.recipe)
    mining = plan.base.mining
    if mining and any(stage.negatives for stage in plan.recipe.stages) and not mining.output.exists():
        PairMiner(plan.base, say=say).run()
    device = start_processes(training.device)[1]
    run = SharedRun(plan.recipe, plan.keys, device=device, say=say)
    run.run(on_step=show_step)
    for index in range(len(plan.keys)):
        for state in saved_states(run.folder(index)):
            shutil.rmtree(state)
    say("measuring")
    result = {"variant": plan.variant.name, "stages": plan.keys, "scores": measure(plan, run)}
    plan.result.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(plan.result) as file:
        file.write(json.dumps(result, indent=1, ensure_ascii=False).encode())


def measure(plan: Plan, run: SharedRun) -> Scores:
    """Validation and held-out texts at all ratios of the experiment."""
    encoder = load_checkpoint(run.result_of(len(plan.keys) - 1)).encoder
    if plan.variant.compressor is not None:
        encoder = with_compressor(encoder, plan.variant.compressor)
    _, training = training_sections(plan.base)
    base = replace(plan.base, training=replace(training, ratios=plan.experiment.ratios))
    targets = run.targets if base.teachers == plan.recipe.teachers else Targets(base, verify=False)
    watch = Watch(base, run.tokenizer, run.tokens, run.held_out, targets.vectors)
    last = plan.recipe.stages[-1]
    return watch.scores(encoder.to(run.device), threshold=last.threshold, dtype=DTYPES[last.dtype])


def result_table(experiment: Experiment, found: Mapping[tuple[str, int], Scores]) -> Tables | None:
    """A table for ``jaspertc report``, of the seeds that all variants have; None if there is no such seed."""
    names = [variant.name for variant in experiment.variants]
    seeds = [seed for seed in experiment.seeds if all((name, seed) in found for name in names)]
    if not seeds:
        return None
    rows_of = {name: list(found[name, seeds[0]]) for name in names}
    all_scores = [scores for name in names for scores in found[name, seeds[0]].values()]
    measures = [name for name in all_scores[0] if all(name in scores for scores in all_scores)]

    def primary(name: str, ratio: str, seed: int) -> float:
        scores = found[name, seed][ratio]
        return sum(scores[measure] for measure in experiment.primary) / len(experiment.primary)

    reference = experiment.reference or names[0]
    rows = []
    for name in names:
        for ratio in rows_of[name]:
            row = [name, ratio]
            row += [cell([found[name, seed][ratio][measure] for seed in seeds]) for measure in measures]
            other = (reference, ratio) if len(names) > 1 else (name, rows_of[name][0])
            known = other != (name, ratio) and other[1] in rows_of[other[0]]
            less = [primary(name, ratio, seed) - primary(*other, seed) for seed in seeds] if known else []
            rows.append([*row, cell(less, "+")])
    title = reference if len(names) > 1 else f"ratio {rows_of[names[0]][0]}"
    how = f"Mean (lowest to highest) of {len(seeds)} seeds." if len(seeds) > 1 else "One run."
    compared = f"Last column: the mean of {' and '.join(experiment.primary)}, less that of {title}"
    return {
        "title": f"{experiment.title}, × 100",
        "columns": ["", "ratio", *measures, f"less {title}"],
        "rows": rows,
        "note": f"{how} {compared}{', seed by seed' if len(seeds) > 1 else ''}. {experiment.note}".strip(),
    }


def cell(values: Sequence[float], sign: str = "") -> str:
    """Mean and range in hundredths."""
    if not values:
        return ""
    numbers = (sum(values) / len(values), min(values), max(values))
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in numbers)
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def write_table(path: Path, experiment: Experiment, folder: Path) -> None:
    """Print the table of what is there, and keep it in ``folder/tables/``."""
    from rich.console import Console
    from rich.table import Table

    found: dict[tuple[str, int], Scores] = {}
    for variant in experiment.variants:
        for seed in experiment.seeds:
            result = plan(path, experiment, variant, seed, folder).result
            if result.exists():
                found[variant.name, seed] = json.loads(result.read_text(encoding="utf-8"))["scores"]
    made = result_table(experiment, found)
    if made is None:
        say(f"{path.stem}: no table yet, since no seed has all variants")
        return
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.parent.name, path.name)
    made["command"] = f"python lab/experiments/run.py {shown}"
    output = folder / "tables" / f"{path.stem}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(output) as file:
        file.write(json.dumps(made, indent=1, ensure_ascii=False).encode())
    table = Table(*made["columns"], title=made["title"], caption=made["note"])
    for row in made["rows"]:
        table.add_row(*row)
    Console().print(table)
    say(f"table: {output}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def show_step(stage: StageConfig, report: StepReport) -> None:
    if (report.step + 1) % STEPS_A_LINE == 0:
        say(f"  {stage.name} {report.step + 1}/{stage.steps}: loss {report.losses['total']:.4g}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXPERIMENT.toml")
    parser.add_argument("--seed", type=int, action="append", help="only this seed; repeatable")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="runs and results (runs/experiments)")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    paths = [path.resolve() for path in given.experiments]
    read = {path: Reader(path, {}).section(Experiment, read_toml(path), "") for path in paths}
    seeds = sorted({seed for item in read.values() for seed in item.seeds})
    for seed in given.seed or ():
        if seed not in seeds:
            raise InputError(f"seed is {seed}, the experiments have {', '.join(map(str, seeds))}")
    plans = [
        plan(path, item, variant, seed, folder)
        for seed in given.seed or seeds
        for path, item in read.items()
        for variant in item.variants
        if seed in item.seeds
    ]
    for number, made in enumerate(plans, 1):
        if not made.result.exists():
            say(f"{number} of {len(plans)}: {made.result.stem}")
            carry_out(made)
    for path, item in read.items():
        write_table(path, item, folder)


if __name__ == "__main__":
    try:
        main()
    except JasperError as error:
        sys.exit(f"error: {error}")
