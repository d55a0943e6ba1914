"""One call for a whole evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from jaspertc.errors import InputError
from jaspertc.evaluation.benchmarks import benchmark_tasks, mteb_tasks
from jaspertc.evaluation.contenders import Swept, load_peers, read_peers
from jaspertc.evaluation.evaluation import Evaluation
from jaspertc.evaluation.local_data import build_task
from jaspertc.evaluation.local_tasks import SAMPLES, choose, read_local_tasks
from jaspertc.evaluation.store import Score

if TYPE_CHECKING:
    from jaspertc.engine.embedder import Embedder
    from jaspertc.engine.options import LoadArguments


def evaluate(
    model: "str | Path | Embedder" = "mini",
    *,
    tasks: Sequence[str] = (),
    benchmark: str | None = None,
    data: str | Path | None = None,
    ratios: Sequence[float] = (),
    threshold: int | None = None,
    peers: Sequence[str] = (),
    output: str | Path = "evaluation-results",
    limit: int | None = None,
    name: str | None = None,
    **load: "Unpack[LoadArguments]",
) -> list[Score]:
    """Score a model on tasks, as ``jaspertc evaluate`` does, without measuring time.

    Results are kept in mteb's format: called again, it goes on, and computes no finished task twice.

    Args:
        model: a loaded model, or what ``Embedder.load`` loads with the arguments ``load``.
        tasks: names of MTEB's tasks; with ``data``, only these of its tasks.
        benchmark: name of one of MTEB's benchmarks, such as ``MTEB(eng, v2)``.
        data: your own tasks: a folder, or a TOML file. Without any of these three, the small test set in the
            package, which needs no network.
        ratios: compression ratios, each in (0, 1]; default: the model's.
        threshold: texts up to this many tokens are not compressed, >= 1; default: the model's.
        peers: further models, each ``KIND=PATH``, or a TOML file of them.
        output: the folder of results.
        limit: items of each task, drawn with a fixed seed, >= 20; default: all.
        name: what to call the model; default: its folder's name.

    Returns:
        The scores of these models and tasks; ``score`` is mteb's main score, usually in [0, 1].

    Raises:
        InputError: a task is unknown, or an argument is not allowed.
        RatioError: a ratio or the threshold is out of range.
        ConfigError: a file of tasks or peers has a wrong key.
        DataFileError: data of a task are not here and cannot be fetched.
        MissingExtraError: mteb is not installed.
    """
    from jaspertc.engine.embedder import Embedder

    if isinstance(tasks, str) or isinstance(peers, str):
        raise InputError(f"tasks is {tasks!r} and peers is {peers!r}, they must be lists of strings")
    if benchmark is None and not tasks and data is None:
        data = SAMPLES
    peer_configs = read_peers(peers)
    # What can be wrong with tasks and data is found before models are loaded, which is slow.
    chosen = choose_tasks(tasks, benchmark, data)
    embedder = model if isinstance(model, Embedder) else Embedder.load(model, **load)
    swept = Swept(embedder, list(dict.fromkeys(ratios)) or [embedder.default_ratio], threshold, name)
    evaluation = Evaluation(swept, load_peers(peer_configs), chosen, Path(output), limit=limit)
    evaluation.run()
    return evaluation.scores()


def choose_tasks(names: Sequence[str], benchmark: str | None, data: str | Path | None) -> list[Any]:
    """mteb's task objects of a benchmark, of local data (all of them or those with these names), or of names.

    Raises:
        InputError: a name is unknown, or not one of the three is given.
        ConfigError: the file of tasks has a wrong key.
        DataFileError: there are no such data.
    """
    if benchmark is not None and not (names or data):
        return benchmark_tasks(benchmark)
    if benchmark is not None or not (names or data):
        raise InputError("give a benchmark, or data, or names of tasks; names may narrow data")
    if data is None:
        return mteb_tasks(names)
    folder, known = read_local_tasks(Path(data))
    return [build_task(task, folder) for task in choose(known, list(names))]
