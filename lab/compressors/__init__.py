"""Questions about compressors and long texts, answered on retrieval sets."""
