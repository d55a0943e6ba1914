"""From text to packed token ids."""
