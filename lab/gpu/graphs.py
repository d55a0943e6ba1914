"""Runs an encoder's layers as CUDA graphs: all kernels of a small batch are started at once.

A few short texts keep a GPU busy for less time than the host takes to start the kernels one by one. A graph
is recorded for a fixed number of texts of a fixed length, so all texts get one of a few lengths: compressed
ones keep some tokens more than the ratio asks for, uncompressed ones are filled up. Large batches take the
usual way.

Shape legend: N texts, C compressed tokens, R texts in a graph, S tokens of each, D model width.
"""

import logging
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from jaspertc.engine.runtimes.rows import rectangle
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.errors import InputError
from jaspertc.model.attention import PackedLayout
from jaspertc.model.backbones.base import Backbone
from jaspertc.model.encoder import Encoder
from jaspertc.model.transfer import to_device
from jaspertc.types import IntArray

logger = logging.getLogger(__name__)

# Powers of two and the numbers halfway: a compressed text gets a fifth more tokens on average.
LENGTHS = np.array([length for power in range(4, 16) for length in (1 << power, 3 << power - 1)])
GRAPH_TOKENS = 2048  # above, kernels run longer than it takes to start them
WARM_UPS = 3  # libraries choose kernels and allocate in the first calls, which cannot be recorded

Run = Callable[[], Tensor]
Record = Callable[[Run], Run]


def rounded_up(targets: IntArray) -> IntArray:
    """The next of ``LENGTHS``, shape (N,) -> (N,); beyond the last, the number itself.

    >>> rounded_up(np.array([7, 86, 97, 128])).tolist()
    [16, 96, 128, 128]
    """
    place = np.searchsorted(LENGTHS, targets)
    found: IntArray = np.where(place < len(LENGTHS), LENGTHS[np.minimum(place, len(LENGTHS) - 1)], targets)
    return found


class GraphedBackbone(Backbone):
    """A causal backbone whose layers are recorded once for each shape of small batches.

    A token looks only back, so what fills a text up to S tokens changes nothing in it.

    Args:
        record: makes something that computes the same again from what is then in its input.
    """

    def __init__(self, backbone: Backbone, record: Record) -> None:
        super().__init__(backbone.config)
        self.layers = backbone
        self._record = record
        self._recorded: dict[tuple[int, int], tuple[Tensor, Run]] = {}
        self._lock = threading.Lock()  # inputs and outputs of a graph always lie in the same memory

    @property
    def token_table(self) -> nn.Embedding:
        return self.layers.token_table

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""
        widths = rounded_up(layout.lengths)
        if widths.sum() > GRAPH_TOKENS:
            out: Tensor = self.layers(x, layout)
            return out
        out = torch.empty_like(x)
        with self._lock:
            for width in np.unique(widths):
                texts = np.flatnonzero(widths == width)
                for part in powers_of_two(texts):
                    self._replay(x, layout, part, int(width), out)
        return out

    def _replay(self, x: Tensor, layout: PackedLayout, texts: IntArray, width: int, out: Tensor) -> None:
        states, run = self._graph(len(texts), width, like=x)
        rows = rectangle(texts, width, layout.lengths, layout.offsets)
        inputs = to_device(rows.tokens[rows.cells].ravel(), x.device)
        tokens, places = (
            to_device(part, x.device) for part in (rows.tokens, rows.places[: len(rows.tokens)])
        )
        torch.index_select(x, 0, inputs, out=states)
        out[tokens] = run().index_select(0, places)

    def _graph(self, count: int, width: int, like: Tensor) -> tuple[Tensor, Run]:
        key = (count, width)
        if key not in self._recorded:
            states = like.new_zeros(count * width, like.shape[1])
            layout = PackedLayout.of(np.full(count, width), like.device)
            self._recorded[key] = states, self._record(lambda: self.layers(states, layout))
            logger.info("recorded a graph for %d x %d tokens", count, width)
        return self._recorded[key]


def powers_of_two(texts: IntArray) -> list[IntArray]:
    """Texts in as few groups as have a power of two of them, so that few shapes occur.

    >>> [len(part) for part in powers_of_two(np.arange(13))]
    [8, 4, 1]
    """
    parts = []
    while len(texts):
        size = 1 << (len(texts).bit_length() - 1)
        parts.append(texts[:size])
        texts = texts[size:]
    return parts


class CUDAGraphs:
    """Records with CUDA. All graphs share memory, which is safe as they run one after the other.

    As PyTorch's notes on CUDA graphs say: warm up on a side stream, then capture.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        with torch.cuda.device(self._device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # "thread_local": other threads may allocate meanwhile
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                out = run()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay


class GraphsRuntime(TorchRuntime):
    """Vectors from packed batches on a GPU, small batches as CUDA graphs.

    Raises:
        InputError: another device than CUDA, or a backbone that is not causal.
    """

    name = "graphs"

    def __init__(self, encoder: Encoder, *, device: str = "auto", dtype: str = "auto") -> None:
        if not encoder.config.backbone.causal:
            raise InputError(
                f"the runtime 'graphs' needs causal layers, {encoder.config.backbone.kind!r} has others; "
                "use runtime='torch'"
            )
        super().__init__(encoder, device=device, dtype=dtype)

    def _prepare_layers(self) -> None:
        if self.device.type != "cuda":
            raise InputError(f"the runtime 'graphs' needs CUDA, the device is {self.device}; use 'torch'")
        super()._prepare_layers()
        self._record_layers(CUDAGraphs(self.device))

    def _record_layers(self, record: Record) -> None:
        self.encoder = self.encoder.with_backbone(GraphedBackbone(self.encoder.backbone, record))

    def adjusted(self, targets: IntArray, *, most: IntArray) -> IntArray:
        return np.minimum(rounded_up(targets), most)
