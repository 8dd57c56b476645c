"""The flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from wn.cli.flags import NUMBER, WHOLE

Dataset = Annotated[
    str, typer.Option("--dataset", "-d", help="Data set; `wn data list` shows them.", rich_help_panel="Data")
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder with data files, searched before $WN_DATA.", rich_help_panel="Data"),
]
TrainLimit = Annotated[
    int | None, typer.Option(help="Use only so many training samples.", rich_help_panel="Data", **WHOLE)
]
TestLimit = Annotated[
    int | None, typer.Option(help="Use only so many test samples.", rich_help_panel="Data", **WHOLE)
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Network; `wn models` shows them.", rich_help_panel="Network")
]
BatchNorm = Annotated[
    str,
    typer.Option(
        help="Batch norm: none, sites (each is a noise site) or hidden (no sites of its own).",
        rich_help_panel="Network",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(help="Epochs; default: the data set's recipe.", rich_help_panel="Training", **WHOLE),
]
BatchSize = Annotated[
    int | None, typer.Option(help="Batch size; default: the recipe's.", rich_help_panel="Training", **WHOLE)
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        help="Adam's initial learning rate; default: the recipe's.",
        rich_help_panel="Training",
        **NUMBER,
    ),
]
Clamp = Annotated[
    bool,
    typer.Option("--clamp", help="Clamp weights to [-1, 1] after each step.", rich_help_panel="Training"),
]
Kind = Annotated[
    str,
    typer.Option(
        "--noise",
        "-n",
        help="none, additive, multiplicative, mixed (--ratio divides σ between the two parts) or "
        "mixed-direct (both have σ).",
        rich_help_panel="Noise",
    ),
]
Mean = Annotated[
    float | None,
    typer.Option(
        help="Mean of additive (default 0) or multiplicative (default 1) noise.",
        rich_help_panel="Noise",
        **NUMBER,
    ),
]
MeanMul = Annotated[
    float | None,
    typer.Option(
        help="Mean of mixed noise's multiplicative part (default 1).", rich_help_panel="Noise", **NUMBER
    ),
]
MeanAdd = Annotated[
    float | None,
    typer.Option(help="Mean of mixed noise's additive part (default 0).", rich_help_panel="Noise", **NUMBER),
]
Ratio = Annotated[
    float | None,
    typer.Option(
        help="Mixed noise of amplitude σ: σ_add = σ·ratio, σ_mul = σ·(1-ratio) (default 0.5).",
        rich_help_panel="Noise",
        **NUMBER,
    ),
]
Order = Annotated[
    str | None,
    typer.Option(help="Order of mixed noise: mul_add (default) or add_mul.", rich_help_panel="Noise"),
]
Normalize = Annotated[
    bool,
    typer.Option(
        "--normalize-to-input-size",
        help="Divide σ by the number of elements per sample at the site.",
        rich_help_panel="Noise",
    ),
]
Repetitions = Annotated[
    int,
    typer.Option(
        "-R",
        "--repetitions",
        help="Execute each noisy site R times and average.",
        rich_help_panel="Noise",
        **WHOLE,
    ),
]
Execution = Annotated[
    str,
    typer.Option(
        help="How R executions are computed: single (one draw with σ/√R; order add_mul: R draws) or each "
        "(R draws).",
        rich_help_panel="Noise",
    ),
]
Seed = Annotated[int, typer.Option(help="Base seed of all randomness, ≥ 0.", rich_help_panel="Run", **WHOLE)]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        help="numpy, numba, cupy, cupy-tf32, or auto: cupy if a GPU answers, else numba.",
        rich_help_panel="Run",
    ),
]
Dtype = Annotated[str, typer.Option(help="float32 or float64.", rich_help_panel="Run")]
Threads = Annotated[
    int | None, typer.Option(help="Processors to use; default: all.", rich_help_panel="Run", **WHOLE)
]
EvaluationBatch = Annotated[
    int | None,
    typer.Option(
        help="Test images at once, rounded up to tiles of 256; no result depends on it.",
        rich_help_panel="Run",
        **WHOLE,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace what is there, also from a different run.", rich_help_panel="Run"
    ),
]
