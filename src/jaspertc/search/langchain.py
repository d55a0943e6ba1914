"""An index as a retriever of LangChain."""

from collections.abc import Mapping
from typing import Any

from jaspertc.errors import MissingExtraError
from jaspertc.search.documents import Scalar
from jaspertc.search.finding import Hit
from jaspertc.search.index import SearchIndex

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain", "a LangChain retriever") from error


class JaspertcRetriever(BaseRetriever):  # type: ignore[misc]
    """Passages of an index that answer a question, as LangChain's documents.

    Their metadata is the document's, with ``score``, and ``start``, ``stop`` and ``heading`` of the passage.

    Args:
        index: an open index.
        k: how many at most.
        mode: ``vector``, ``text`` or ``hybrid``.
        where: as in ``SearchIndex.search``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: SearchIndex
    k: int = 4
    mode: str = "hybrid"
    where: Mapping[str, Scalar] | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        hits = self.index.search(query, k=self.k, mode=self.mode, where=self.where)
        return [Document(id=hit.id, page_content=hit.passage_text, metadata=_metadata(hit)) for hit in hits]


def _metadata(hit: Hit) -> dict[str, Any]:
    passage = hit.passage
    span = {"start": passage.start, "stop": passage.stop, "heading": passage.heading}
    return {"score": hit.score, **span, **hit.metadata}
