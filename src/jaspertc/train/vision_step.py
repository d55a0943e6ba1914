"""What a vision stage computes: pictures' vectors, the gradients of a step, and scores.

Shape legend: B pictures, E width of the vectors, F features, S pixels a side.
"""

import numpy as np
import torch
from torch import Tensor

from jaspertc.engine.precision import normalized
from jaspertc.model.encoder import Encoder
from jaspertc.model.vision import VisionTower
from jaspertc.recipe.objective import picture_losses
from jaspertc.recipe.vision import VisionStage
from jaspertc.train.captions import CaptionVectors
from jaspertc.train.loop import DTYPES
from jaspertc.train.pictures import KeptFeatures, PictureBatch
from jaspertc.train.step import autocast

AT_ONCE = 128


class PictureSide:
    """A picture side in training, with the frozen text side that its rows pass through.

    Args:
        frozen: the text side, in float32.
    """

    def __init__(self, tower: VisionTower, frozen: Encoder, stage: VisionStage, device: torch.device) -> None:
        self.tower, self.frozen, self.stage, self.device = tower, frozen, stage, device

    def vectors(self, inputs: Tensor, tokens: int) -> Tensor:
        """Vectors before normalisation, shape (B, E).

        Args:
            inputs: pooled features, shape (B, tokens, F), or pixels, shape (B, 3, S, S).
        """
        inputs = inputs.to(self.device)
        with autocast(self.device, DTYPES[self.stage.dtype], cache=True):
            pooled = inputs if inputs.ndim == 3 else self.tower.pool(self.tower.encoder(inputs), tokens)
            rows = self.tower(pooled)
            lengths = np.full(len(inputs), self.tower.rows_of(tokens), dtype=np.int64)
            return self.frozen.from_rows(rows, lengths).float()

    def gradients(self, batch: PictureBatch, step: int) -> dict[str, float]:
        """Add the gradients of the loss on the whole batch, computed in parts; see ``train.step``."""
        stage, each = self.stage, self.tower.rows_of(batch.each)
        parts = torch.split(batch.inputs, max(1, stage.token_budget // each))
        keep_graph = len(parts) == 1 or each * len(batch.ids) <= stage.graph_tokens
        with torch.set_grad_enabled(keep_graph):
            computed = [self.vectors(part, batch.each) for part in parts]
        whole = torch.cat(computed).detach().requires_grad_()
        targets, captions = batch.targets.to(self.device), batch.captions.to(self.device)
        losses = picture_losses(stage.objective, whole, targets, captions, seed=stage.seed + step)
        total = torch.stack(list(losses.values())).sum()
        (gradient,) = torch.autograd.grad(total, whole)
        for part, done, back in zip(parts, computed, torch.split(gradient, [len(part) for part in parts])):
            (done if keep_graph else self.vectors(part, batch.each)).backward(back)  # type: ignore[no-untyped-call]
        return {
            **{name: float(loss.detach()) for name, loss in losses.items()},
            "total": float(total.detach()),
        }

    def scores(
        self, features: KeptFeatures, captions: CaptionVectors, first: int
    ) -> dict[str, dict[str, float]]:
        """How well validation pictures find what they show among all that any picture shows, by tokens.

        Args:
            features: of the validation pictures.
            captions: of all pictures.
            first: the number of the first validation picture among all.
        """
        training = self.tower.training
        self.tower.eval()
        wanted = captions.targets[first:]
        candidates, rows = np.unique(captions.targets, axis=0, return_inverse=True)
        right = rows.reshape(-1)[first:]
        scores: dict[str, dict[str, float]] = {}
        for tokens in sorted(set(self.stage.tokens)):
            parts = []
            for begin in range(0, len(wanted), AT_ONCE):
                numbers = np.arange(begin, min(begin + AT_ONCE, len(wanted)))
                pooled = features.pooled(numbers, np.zeros_like(numbers), tokens)
                with torch.inference_mode():
                    parts.append(self.vectors(pooled, tokens).float().cpu().numpy())
            vectors = normalized(np.concatenate(parts))
            likeness = vectors @ candidates.T
            ranks = (likeness > likeness[np.arange(len(right)), right][:, None]).sum(1)
            scores[f"{tokens} tokens"] = {
                "found first": float((ranks < 1).mean()),
                "found in ten": float((ranks < 10).mean()),
                "cosine to target": float((vectors * wanted).sum(1).mean()),
            }
        self.tower.train(training)
        return scores
