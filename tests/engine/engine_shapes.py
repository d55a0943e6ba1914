"""Shapes of small models that several tests of runtimes use."""

BERT = {
    "kind": "bert",
    "hidden_size": 64,
    "num_heads": 4,
    "num_kv_heads": 4,
    "head_dim": 16,
    "causal": False,
    "max_positions": 600,
}
