"""Files: read row by row, written whole or not at all, locked, hashed."""
