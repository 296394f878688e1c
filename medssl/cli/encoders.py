"""The commands that use an encoder as it is: written for other programs, or applied to images."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.app import app
from medssl.cli.options import Device, Set
from medssl.exit_codes import handle_errors

Encoder = Annotated[
    str | None, typer.Option(metavar="PATH", help="A run folder or an encoder file.  [default: the newest finished pretraining]")
]


@app.command()
def embed(
    data: Annotated[str, typer.Option(metavar="PATH|NAME", help="The images: what pretrain takes, or a store.")],
    encoder: Encoder = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The file to write: .parquet, or .npy with a .csv of the keys beside it.")
    ] = Path("features.parquet"),
    pool: Annotated[str, typer.Option(metavar="HOW", help="none, or volume for the mean features of each volume's slices.")] = "none",
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="float32, or float16 for half the size.")] = "float32",
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    sets: Set = None,
) -> None:
    """Write an encoder's features of images, with the keys of images and patients, and with the labels.

    After a stop or a kill, the same command continues.

    Example: medssl embed --data ward/ --out features.parquet
    """
    with handle_errors() as console:
        from medssl.commands.embed import embed as command

        command(console, data=data, encoder=encoder, out=out, pool=pool, dtype=dtype, device=device, overwrite=overwrite, sets=sets or ())


@app.command()
def neighbours(
    query: Annotated[Path, typer.Option(metavar="FILE", help="The image file to compare with.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, metavar="N", help="How many images to show.")] = 8,
    index: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The query's frame, page or slice, from 0.  [default: the middle one]")
    ] = None,
    encoder: Encoder = None,
    features: Annotated[Path | None, typer.Option("--in", metavar="FILE", help="Search the images of this file of medssl embed.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH|NAME", help="Search these images.  [default: those of --in, else of the pretraining]")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture to write, a .png file.")] = Path("neighbours.png"),
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture if it exists.")] = False,
    sets: Set = None,
) -> None:
    """Draw the images that are most similar to one image, as an encoder sees them: one of each patient, none of the same file.

    Example: medssl neighbours --query image.dcm --in features.parquet
    """
    with handle_errors() as console:
        from medssl.commands.neighbours import neighbours as command

        command(
            console,
            query=query,
            k=k,
            index=index,
            encoder=encoder,
            features=features,
            data=data,
            out=out,
            device=device,
            overwrite=overwrite,
            sets=sets or (),
        )


@app.command()
def export(
    name: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="timm, hf, torchvision, monai, bundle, nnunet, onnx, torch-export, mlflow, medssl."),
    ],
    out: Annotated[Path, typer.Option(metavar="PATH", help="The file or folder to write.")],
    encoder: Encoder = None,
    with_preparation: Annotated[
        bool, typer.Option("--with-preparation", help="onnx: take 8-bit square images of any size, and resize them.")
    ] = False,
    with_hashes: Annotated[
        bool, typer.Option("--with-hashes", help="Add a Bloom filter of the training patients and images, by which leaks are found.")
    ] = False,
    licence: Annotated[str | None, typer.Option(metavar="TEXT", help="The licence of the weights.  [default: the card's]")] = None,
    key: Annotated[Path | None, typer.Option("--sign", metavar="KEY", help="Sign the card with this Ed25519 private key.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export has written there.")] = False,
) -> None:
    """Write an encoder for timm, torchvision, MONAI, ONNX or plain torch, and check that it gives the same features there.

    Example: medssl export --encoder runs/chest --format timm --out chest-timm
    """
    with handle_errors() as console:
        from medssl.commands.export import export as command

        command(
            console,
            name=name,
            out=out,
            encoder=encoder,
            with_preparation=with_preparation,
            with_hashes=with_hashes,
            licence=licence,
            key=key,
            overwrite=overwrite,
        )
