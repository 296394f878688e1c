"""The options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|NAME",
        help="A folder of images, one image file, a CSV or Parquet table, an .npz, medmnist:NAME, phantom or phantom_volumes.",
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="The run folder to write.  [default: runs/TIME-KIND-NAME]")]
DemoOut = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="The folder of both runs, pretrain/ and finetune/.  [default: runs/demo]")
]
Seed = Annotated[int | None, typer.Option(min=0, max=4294967295, metavar="N", help="The same seed and data give the same numbers.")]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run folder if it exists.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, as in --set train.lr=1e-3. `medssl settings` lists them."),
]
