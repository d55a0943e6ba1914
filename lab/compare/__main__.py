"""``python -m lab.compare``: speed of a model, side by side with other ways of computing it."""

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from jaspertc.cli.progress import bars, say
from jaspertc.errors import InputError, JasperError
from jaspertc.evaluation.contenders import read_peers
from jaspertc.reports.origin import command_line
from lab.compare import settings as known
from lab.compare.outside import DISTURBING
from lab.compare.protocols import Unit
from lab.compare.report import write_report
from lab.compare.run import Benchmark
from lab.compare.settings import Settings
from lab.compare.summary import disturbance

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    model: Annotated[
        str | None, typer.Argument(help="mini, a checkpoint folder or a hub name. Default: mini.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the results; an interrupted run goes on in it.")
    ] = Path("benchmark-results"),
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="table4 (fixed lengths), mix (lengths as they fall), query (one at a time), start (fresh "
            "processes); several with commas. Default: all, of a modest size."
        ),
    ] = None,
    contender: Annotated[
        list[str] | None,
        typer.Option(
            help="ours[-RUNTIME][-PRECISION], padded[-PRECISION], plain[-PRECISION], st-BACKEND; several "
            "with commas. Default: ours, padded, plain."
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=PATH",
            help="Another model, as in `jaspertc evaluate`: sentence-transformers=FOLDER, or a TOML file of "
            "peers. Repeatable.",
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Random weights in place of MODEL: 600m, the released model's shape.")
    ] = None,
    layers: Annotated[int, typer.Option(min=0, help="Keep so many layers of --shape; 0 keeps all.")] = 0,
    texts: Annotated[
        int | None,
        typer.Option(
            help="Texts of table4 (of each length) and mix. Default: 1600, or 32 without --protocol."
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Tokens of a text in table4. Default: 128,256,512,1024,2048, or 128,512,2048 without "
            "--protocol."
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(
            help="Compression ratios. Default: 1,0.5,0.33,0.2,0.1, or 1,0.33,0.1 without --protocol."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Texts in a batch.")] = 32,
    median: Annotated[int, typer.Option(help="Median length in mix, in tokens.")] = 150,
    rounds: Annotated[int, typer.Option(help="Timed rounds; one more warms up.")] = 3,
    threads: Annotated[int | None, typer.Option(help="Of the CPU. Default: as PyTorch chooses.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Measure speed, latency, start and memory against other ways of computing the same vectors.

    Contenders take turns on the same texts, round by round, in one process. Results are kept as they come in
    OUTPUT/results.json; report.html, report.md and pictures are made of them. docs/benchmarks.md says what
    each number means.
    """
    if model is not None and shape is not None:
        raise InputError(f"MODEL ({model}) and --shape ({shape}) are given together; give one of them")
    full = bool(protocol)
    names = known.split(contender) if contender else known.DEFAULT_CONTENDERS
    settings = Settings(
        model="" if shape else model or "mini",
        shape=shape or "",
        layers=layers,
        protocols=tuple(known.split(protocol)) if protocol else known.PROTOCOLS,
        contenders=(*map(known.read_contender, names), *map(known.peer_spec, read_peers(peer or []))),
        texts=texts if texts is not None else known.REPORT_TEXTS if full else known.QUICK_TEXTS,
        lengths=known.numbers("--lengths", lengths, int)
        if lengths
        else (known.REPORT_LENGTHS if full else known.QUICK_LENGTHS),
        ratios=known.numbers("--ratios", ratios, float)
        if ratios
        else (known.REPORT_RATIOS if full else known.QUICK_RATIOS),
        batch=batch,
        median=median,
        rounds=rounds,
        threads=threads if threads is not None else torch.get_num_threads(),
        device=device,
    )
    benchmark = Benchmark(settings, output, command=command_line(program="python -m lab.compare"))
    _run(benchmark, settings)
    for name, why in benchmark.results.content["skipped"].items():
        say(f"left out: {name}: {why}")
    others = disturbance(benchmark.results.content)
    if others is not None and others.median > DISTURBING:
        share = f"{others.median:.0%}"
        say(f"other processes used {share} of this machine meanwhile; measure again when it is quiet")
    for path in write_report(output):
        typer.echo(path)


def _run(benchmark: Benchmark, settings: Settings) -> None:
    left = benchmark.left
    parts = len(benchmark.units)
    say(f"{parts} parts, {settings.rounds} rounds and one to warm up: {left} measurements left")
    if not left:
        return
    with bars(note=True) as bar:
        task = bar.add_task("loading", total=left, note="")

        def loading(name: str) -> None:
            bar.update(task, note=name)

        def tell(unit: Unit, label: str) -> None:
            bar.update(task, advance=1, description=unit.key, note=label)

        try:
            benchmark.run(loading=loading, tell=tell)
        except KeyboardInterrupt:
            say("finished rounds are kept; the same command goes on with the next one")
            raise


def main() -> None:
    """Run the command; a user's mistake is one line on standard error."""
    try:
        app()
    except JasperError as error:
        say(f"error: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
