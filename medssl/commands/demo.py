"""`medssl demo`: the whole workflow on synthetic radiographs, offline: pretrain, fine-tune at three label fractions, report."""

from pathlib import Path

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.runs.run_dir import RUNS
from medssl.types import Reporter

LABELS = "1pct,10pct,100pct"


def demo(reporter: Reporter, *, out: Path | None = None, overwrite: bool = False) -> Path:
    """Run the demo in `out` (default runs/demo) and return the folder of the fine-tuning, which has report.html."""
    folder = out or RUNS / "demo"
    encoder = pretrain(reporter, data="phantom", preset="demo", out=folder / "pretrain", overwrite=overwrite)
    return finetune(reporter, labels=LABELS, encoder=str(encoder), out=folder / "finetune", overwrite=overwrite)
