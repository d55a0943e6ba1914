"""An index as a retriever of LlamaIndex."""

from collections.abc import Mapping

from jaspertc.errors import MissingExtraError
from jaspertc.search.documents import Scalar
from jaspertc.search.index import SearchIndex

try:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtraError("llama-index-core", "llama-index", "a LlamaIndex retriever") from error


class JaspertcRetriever(BaseRetriever):  # type: ignore[misc]
    """Passages of an index that answer a question, as LlamaIndex's nodes with scores.

    Args:
        index: an open index.
        k: how many at most.
        mode: ``vector``, ``text`` or ``hybrid``.
        where: as in ``SearchIndex.search``.
    """

    def __init__(
        self,
        index: SearchIndex,
        *,
        k: int = 4,
        mode: str = "hybrid",
        where: Mapping[str, Scalar] | None = None,
    ) -> None:
        super().__init__()
        self._index, self._k, self._mode, self._where = index, k, mode, where

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._index.search(query_bundle.query_str, k=self._k, mode=self._mode, where=self._where)
        return [
            NodeWithScore(
                node=TextNode(
                    id_=hit.id,
                    text=hit.passage_text,
                    metadata={"heading": hit.passage.heading, **hit.metadata},
                    start_char_idx=hit.passage.start,
                    end_char_idx=hit.passage.stop,
                ),
                score=hit.score,
            )
            for hit in hits
        ]
