"""How well and how fast an index searches: quality per ratio, mode and storage, on retrieval sets."""
