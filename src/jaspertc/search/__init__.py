"""A search index in one SQLite file: documents, their vectors and exact nearest neighbours."""
