"""The commands that use an encoder outside of a training."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.app import app
from medssl.exit_codes import handle_errors

Encoder = Annotated[
    str | None, typer.Option(metavar="PATH", help="A run folder or an encoder file.  [default: the newest finished pretraining]")
]


@app.command()
def export(
    name: Annotated[
        str, typer.Option("--format", metavar="NAME", help="timm, hf, torchvision, monai, bundle, onnx, torch-export or medssl.")
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
