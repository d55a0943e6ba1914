"""What an encoder, a checkpoint, a recipe and a plan ask of a compressor.

Shape legend: N texts, T tokens, C compressed tokens, D width.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from jaspertc.config import CompressorConfig, from_mapping
from jaspertc.model.backbones.base import Backbone
from jaspertc.model.compressors.lookup import TokenRows
from jaspertc.model.compressors.windows import Shares, Windows, packed_windows
from jaspertc.model.lengths import Ratio, target_lengths
from jaspertc.pytorch import Tensor, nn
from jaspertc.text.packing import PackedBatch, pack
from jaspertc.types import FloatArray, IntArray


class Compressor(nn.Module):
    """All that happens between token lookup and backbone. To add one: a class in a file, a line in the dict.

    What depends on a token's id alone goes into ``transform``, which folds into the lookup table.
    What needs neighbours goes into ``forward``; every runtime computes that in PyTorch, before its layers.
    Means of windows need no ``forward``, only ``window_edges`` and, where tokens count unequally,
    ``token_shares``.

    Attributes:
        Config: a frozen dataclass derived from ``CompressorConfig`` with the class's own keys.
        starts: names by which recipes and ``graft`` ask for a new one, with the own keys each stands for.
        stored_names: beginning of a parameter's name in a checkpoint -> its beginning in this module; a
            parameter that none fits is stored under ``compressor.`` and its name.
        can_compress: whether it takes a ratio below 1.
    """

    Config: ClassVar[type[CompressorConfig]] = CompressorConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]]
    stored_names: ClassVar[Mapping[str, str]] = {}
    can_compress: ClassVar[bool] = True

    def __init__(self, config: CompressorConfig, width: int) -> None:
        """A module with fresh weights for embeddings of ``width`` D."""
        super().__init__()
        self.config = config

    @classmethod
    def read_config(cls, values: Mapping[str, Any]) -> CompressorConfig:
        """The config from a checkpoint's table; raises ConfigError for unknown keys and wrong values."""
        return from_mapping(cls.Config, values, "the model's compressor")

    @classmethod
    def start_config(
        cls, keys: Mapping[str, Any], *, width: int, before: CompressorConfig
    ) -> CompressorConfig:
        """The config of a new compressor that a recipe or ``graft`` asks for.

        Args:
            keys: the own keys of the name asked for (``starts``), then those given with it.
            width: D.
            before: of the compressor that it replaces; threshold and ratio stay.
        """
        config = from_mapping(cls.Config, dict(keys), "the compressor")
        return replace(config, threshold=before.threshold, ratio=before.ratio)

    def initialise(self, backbone: Backbone) -> None:
        """Set start values that depend on a backbone's weights; called once when it is put before one."""

    @classmethod
    def flops(cls, config: CompressorConfig, width: int, tokens: int) -> int:
        """FLOPs for a text of so many tokens, in inference: what folds costs nothing."""
        return 0

    def target_lengths(
        self, lengths: IntArray, *, ratio: Ratio, threshold: int, max_compressed: int | None
    ) -> IntArray:
        """Compressed tokens per text, shape (N,) -> (N,), each in [1, length].

        Raises:
            RatioError: an argument is out of range.
        """
        return target_lengths(lengths, ratio=ratio, threshold=threshold, max_compressed=max_compressed)

    @property
    def transforms(self) -> bool:
        """Whether ``transform`` does anything; if not, the table is used as it is stored."""
        return type(self).transform is not Compressor.transform

    def transform(self, x: Tensor) -> Tensor:
        """What each token's embedding passes through, (T, D) -> (T, D); depends on the token alone."""
        return x

    def transform_rows(self, weights: Mapping[str, FloatArray], x: FloatArray) -> FloatArray:
        """``transform`` in numpy, for installations without PyTorch.

        Args:
            weights: the compressor's parameters by name.
            x: shape (T, D).
        """
        return x

    @staticmethod
    def window_edges(index: Any, length: Any, target: Any) -> tuple[Any, Any]:
        """First token and end of window ``index`` of a text that ``length`` tokens become ``target`` in.

        Integer arithmetic only, so that arrays, tensors and the nodes of an exported graph can be put in.
        """
        return index, index + 1

    @staticmethod
    def token_shares(token: Any, index: Any, length: Any, target: Any) -> Any:
        """What a token of window ``index`` counts in it, > 0; a mean divides by the sum in the window.

        Integer arithmetic as in ``window_edges``; ``token`` is its number in the text.
        """
        return 1

    @classmethod
    def shares(cls) -> Shares | None:
        """``token_shares``, or ``None`` where all tokens of a window count alike."""
        return None if cls.token_shares is Compressor.token_shares else cls.token_shares

    def windows(self, batch: PackedBatch, targets: IntArray) -> Windows:
        """Which tokens of a batch each compressed token is made of."""
        return packed_windows(self.window_edges, batch.lengths, targets, shares=self.shares())

    def window_bounds(self, ids: IntArray, target: int) -> list[tuple[int, int]]:
        """First token and end of each window of one text with these ids, shape (L,)."""
        batch = pack([ids])
        return self.windows(batch, batch.lengths * 0 + target).bounds()

    @classmethod
    def averages_windows(cls) -> bool:
        """Whether its rows are means of windows by rules that can be computed anywhere."""
        return cls.forward is Compressor.forward and cls.windows is Compressor.windows

    @classmethod
    def computes_in_numpy(cls) -> bool:
        """Whether PyTorch can be done without."""
        with_transform = cls.transform is not Compressor.transform
        return cls.averages_windows() and (
            not with_transform or cls.transform_rows is not Compressor.transform_rows
        )

    @classmethod
    def rules(cls, config: CompressorConfig) -> "Compressor":
        """One without weights, where there is no PyTorch: everything but ``transform`` and ``forward``."""
        compressor = cls.__new__(cls)
        compressor.config = config
        return compressor

    def forward(self, rows: TokenRows, batch: PackedBatch, targets: IntArray) -> Tensor:
        """Compressed rows: the means of the windows, unless a class says otherwise.

        Args:
            rows: the transformed embeddings of the batch's T tokens.
            batch: ids, shape (T,), and lengths, shape (N,), on the host.
            targets: compressed tokens per text, shape (N,), as ``target_lengths`` gives them.

        Returns:
            Shape (C, D), text after text.
        """
        if (targets == batch.lengths).all():
            return rows.each()
        return rows.pooled(self.windows(batch, targets))
