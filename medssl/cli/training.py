"""The commands on the way from images to a classifier."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.app import app
from medssl.cli.options import Data, Device, Out, Overwrite, Seed, Set
from medssl.exit_codes import handle_errors


@app.command()
def prepare(
    data: Data = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Prepare as this preset needs it.  [default: chosen]")] = None,
    out: Annotated[Path | None, typer.Option(metavar="STORE", help="The folder to write.  [default: in the cache, for pretrain]")] = None,
    shard: Annotated[str | None, typer.Option(metavar="N/OF", help="Do one share of the work, as in 3/16.")] = None,
    sets: Set = None,
) -> None:
    """Read all images once, show what was found, what was left out and what leaks, and write a store.

    Example: medssl prepare --data chestxray/
    """
    with handle_errors() as console:
        from medssl.commands.prepare import prepare as command

        command(console, data=data, preset=preset, out=out, shard=shard, sets=sets or ())


@app.command()
def pretrain(
    data: Data = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="The method to learn with.  [default: the preset's]")] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="A complete configuration.  [default: chosen by the data and the device]")
    ] = None,
    out: Out = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many times all images are seen.  [default: the preset's]")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Weights to start from: a file as resnet50.a1_in1k.safetensors, or a run.  [default: random]"),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Continue this run from its last checkpoint.")] = None,
    overwrite: Overwrite = False,
    sets: Set = None,
) -> None:
    """Learn an encoder from images alone, from random numbers or from given weights.

    Example: medssl pretrain --data chestxray/
    """
    with handle_errors() as console:
        from medssl.commands.pretrain import pretrain as command

        changes = (*(sets or ()), *((f"train.epochs={epochs}",) if epochs else ()))
        command(
            console,
            data=data,
            method=method,
            preset=preset,
            out=out,
            init=init,
            seed=seed,
            device=device,
            resume=resume,
            overwrite=overwrite,
            sets=changes,
        )


@app.command()
def finetune(
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of labels, or several: A,B.  [default: the only one]")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="10pct (or 10% or 0.1), 1pct,10pct,100pct, 50shot (patients a class) or all.")
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="MODE", help="linear (a probe on the encoder's features), knn or full.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A run folder, an encoder file or other weights.  [default: the newest finished pretraining]"),
    ] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
    sets: Set = None,
) -> None:
    """Make a classifier from an encoder and few labels, and measure the gain over the same network without pretraining.

    Example: medssl finetune --labels 10pct
    """
    with handle_errors() as console:
        if labels is not None:
            from medssl.data.split import parse_labels

            parse_labels(labels)
        from medssl.commands.finetune import finetune as command

        command(
            console,
            label=label,
            labels=labels,
            mode=mode,
            encoder=encoder,
            data=data,
            out=out,
            seed=seed,
            device=device,
            overwrite=overwrite,
            sets=sets or (),
        )


@app.command()
def predict(
    data: Annotated[
        str,
        typer.Option(metavar="PATH|NAME", help="New images: what finetune takes, with labels or without."),
    ],
    model: Annotated[
        str | None, typer.Option(metavar="PATH", help="A fine-tuning's run folder.  [default: the newest finished one]")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table to write.")] = Path("predictions.csv"),
    abstain_below: Annotated[float, typer.Option(min=0, max=1, metavar="SHARE", help="Make no prediction below this confidence.")] = 0.0,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it exists.")] = False,
    sets: Set = None,
) -> None:
    """Write what a classifier predicts for new images, its confidence, and how much the images differ from the training images.

    Example: medssl predict --data ward/ --abstain-below 0.8
    """
    with handle_errors() as console:
        from medssl.commands.predict import predict as command

        command(console, data=data, model=model, out=out, abstain_below=abstain_below, device=device, overwrite=overwrite, sets=sets or ())
