"""Options that several commands load a model with."""

from typing import Annotated

import typer

Runtime = Annotated[
    str,
    typer.Option(
        help="What computes: torch, openvino (CPU), compiled or graphs (GPU), or auto: openvino for int8 "
        "weights on a CPU, else torch."
    ),
]
