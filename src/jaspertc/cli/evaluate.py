"""``jaspertc evaluate``: scores on MTEB or local tasks, at one compression ratio or many."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.options import Device, Dtype, ModelArgument, Runtime, Threshold
from jaspertc.cli.progress import bars, quiet, say
from jaspertc.cli.terminal import visible

if TYPE_CHECKING:
    from jaspertc.evaluation.evaluation import Evaluation, Job


def evaluate(
    model: ModelArgument = "mini",
    benchmark: Annotated[
        str | None, typer.Option(help='A benchmark of MTEB, such as "MTEB(eng, v2)" or "MTEB(cmn, v1)".')
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks of MTEB, with commas between; with --local or --data: only these of them."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="The small test set in the package, without network.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Your own tasks: a folder, or a TOML file of tasks.")
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(help="Compression ratio in (0, 1]; repeat for more; default: the model's."),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Ratios 1, 0.8, 0.66, 0.5, 0.33, 0.2, 0.1 and 0.05.")
    ] = False,
    threshold: Threshold = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=PATH",
            help="Also evaluate this model: KIND is jaspertc, sentence-transformers, use, vllm, function or "
            "fused; or a TOML file of peers. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder of results; finished tasks in it are not repeated.")
    ] = Path("evaluation-results"),
    limit: Annotated[
        int | None,
        typer.Option(help="Items of each task, at least 20, drawn with a fixed seed; default: all."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show published scores beside ours, where there are.")
    ] = False,
    time: Annotated[bool, typer.Option(help="Measure time per text when all tasks are done.")] = True,
    name: Annotated[
        str | None, typer.Option(help="What to call the model; default: its folder's name.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    runtime: Runtime = "auto",
) -> None:
    """Score a model on MTEB's tasks or on local ones.

    Each finished task is kept in mteb's own JSON format: after an interruption the same command goes on, and
    loses at most the task in hand. `jaspertc report` makes a page of the folder.
    """
    import os

    os.environ.setdefault("TQDM_DISABLE", "1")  # before tqdm is imported: its bars and ours would mix

    from jaspertc.errors import InputError
    from jaspertc.evaluation.contenders import SWEEP, Swept, load_peers, read_peers
    from jaspertc.evaluation.evaluation import Evaluation
    from jaspertc.reports.origin import command_line

    ratios = list(SWEEP) if sweep else list(dict.fromkeys(ratio or []))
    if sweep and ratio:
        raise InputError("--sweep and --ratio are given together; give one of them")
    peers = read_peers(peer or [])
    # What can be wrong with tasks and data is found before models are loaded, which is slow.
    chosen = _tasks(benchmark, tasks, local, data)

    from jaspertc.engine.embedder import Embedder

    embedder = Embedder.load(model, device=device, dtype=dtype, runtime=runtime)
    swept = Swept(embedder, ratios or [embedder.default_ratio], threshold, name)
    evaluation = Evaluation(swept, load_peers(peers), chosen, output, limit=limit, command=command_line())
    left, total = len(evaluation.jobs), len(chosen) * len(evaluation.contenders)
    settings = len(evaluation.contenders)
    say(f"{len(chosen)} tasks, {settings} models or settings: {total} results, {left} to compute")
    _run(evaluation, left)
    if time:
        with _status("measuring time per text") as show:
            evaluation.time(started=show)
    _print_scores(evaluation)
    if compare:
        _print_published(evaluation)
    say(f"results: {output}; next: jaspertc report {output} --output reports/{evaluation.contenders[0].name}")


def _tasks(benchmark: str | None, tasks: str | None, local: bool, data: Path | None) -> list[Any]:
    from jaspertc.errors import InputError
    from jaspertc.evaluation.local_tasks import SAMPLES
    from jaspertc.evaluation.run import choose_tasks

    names = [item.strip() for item in (tasks or "").split(",") if item.strip()]
    sources = [bool(benchmark), local, data is not None]
    if sum(sources) > 1 or (benchmark and names) or not (any(sources) or names):
        raise InputError(
            "give one of --local, --data, --benchmark and --tasks; --tasks may narrow --local or --data"
        )
    return choose_tasks(names, benchmark or None, SAMPLES if local else data)


def _run(evaluation: "Evaluation", left: int) -> None:
    count = 0
    with bars(note=True, clock="elapsed") as bar:
        task = bar.add_task("", total=left, note="")

        def started(job: "Job") -> None:
            nonlocal count
            count = 0
            bar.update(task, description=visible(job.name), note="")

        def advance(texts: int) -> None:
            nonlocal count
            count += texts
            bar.update(task, note=f"{count:,} texts")

        def finished(job: "Job", score: float) -> None:
            bar.advance(task)
            line = f"{job.name}: {100 * score:.2f}"
            bar.console.print(visible(line), markup=False, highlight=False)

        try:
            evaluation.run(started=started, advance=advance, finished=finished)
        except KeyboardInterrupt:
            say("finished tasks are kept; the same command goes on with the next one")
            raise


@contextmanager
def _status(what: str) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if quiet.get() or not console.is_terminal:
        yield lambda label: None
        return
    with console.status(what) as status:
        yield lambda label: status.update(escape(visible(f"{what}: {label}")))


def _print_scores(evaluation: "Evaluation") -> None:
    from jaspertc.cli.tables import show
    from jaspertc.evaluation.store import read_folder
    from jaspertc.evaluation.summary import Summary
    from jaspertc.evaluation.tables import overview

    times = read_folder(evaluation.folder).latency
    show(overview(Summary(evaluation.scores()), times, digits=1))


def _print_published(evaluation: "Evaluation") -> None:
    from jaspertc.cli.tables import show
    from jaspertc.evaluation.summary import Summary
    from jaspertc.evaluation.tables import published_table

    table = published_table(Summary(evaluation.scores()))
    if table is None:
        say("none of these tasks has published scores")
    else:
        show(table)
