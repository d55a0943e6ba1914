"""Options that several commands load a model with."""

from typing import Annotated

import typer

Runtime = Annotated[
    str,
    typer.Option(help="What computes: torch, openvino (CPU), or auto: openvino for int8 weights on a CPU."),
]
