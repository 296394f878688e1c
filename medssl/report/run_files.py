"""What a report consists of in a run folder: report.html and the pictures of figures/."""

from pathlib import Path
from typing import TYPE_CHECKING

from medssl.errors import UserError
from medssl.evaluate import ResultsDocument
from medssl.files import cannot_write, write_atomically
from medssl.report.figures import figure_files

if TYPE_CHECKING:
    from medssl.report.visuals import Pictures

REPORT, FIGURES = "report.html", "figures"


def write_figures(run: Path, document: ResultsDocument, pictures: "Pictures | None" = None) -> None:
    """The figures of results.json and the pictures, as PNG files. Raises UserError where they cannot be written."""
    folder = run / FIGURES
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(cannot_write(folder, error)) from None
    for name, content in {**figure_files(document), **(pictures.files() if pictures else {})}.items():
        write_atomically(folder / name, content)
