"""Checkpoint folders: safetensors <-> module. No pickle, no remote code."""

from jaspertc.checkpoint.layouts import CheckpointInfo
from jaspertc.checkpoint.load import Checkpoint, load_checkpoint, resolve
from jaspertc.checkpoint.save import save_checkpoint

__all__ = ["Checkpoint", "CheckpointInfo", "load_checkpoint", "resolve", "save_checkpoint"]
