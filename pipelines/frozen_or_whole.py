"""A linear classifier on the frozen encoder beside the whole network trained, with few labels: a table of what was measured.

    python pipelines/frozen_or_whole.py [--labels 1pct] [--only nih cells] [--against "random, whole network"]

Reads what study.yaml and study_full.yaml left (10pct), or study_few_labels.yaml (1pct). Both ways are scored on the same test patients,
with the same resamples of them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from differences import table

HERE = Path(__file__).parent
WAYS = {  # by the amount of labels: study, column of its scores, way
    "10pct": [("study.yaml", "linear 10pct", "frozen"), ("study_full.yaml", "full 10pct", "whole network")],
    "1pct": [("study_few_labels.yaml", "linear 1pct", "frozen"), ("study_few_labels.yaml", "full 1pct", "whole network")],
}
VARIANTS = ("pixels", "random", "pnnclr")


def lines_of(study: dict[str, Any], column: str, way: str) -> list[dict[str, Any]]:
    """The lines of a file of results that have the settings of today, each called after its variant and its way of training."""
    lines = [json.loads(line) for line in Path(study["results"]).read_text("utf-8").splitlines()]
    kept = [line for line in lines if line["data"] in study["data"] and line["variant"] in VARIANTS]
    scored = [line for line in kept if line["settings"] == study["variants"][line["variant"]] and column in line["scores"]]
    return [
        {**line, "variant": f"{line['variant']}, {way}", **{kind: {"AUROC": line[kind][column]} for kind in ("scores", "resamples")}}
        for line in scored
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--labels", choices=WAYS, default="10pct")
    parser.add_argument("--only", nargs="+", default=[], help="data sets")
    parser.add_argument("--against", default="random, whole network", help="what the others are compared with")
    options = parser.parse_args()
    studies = [(yaml.safe_load((HERE / name).read_text("utf-8")), column, way) for name, column, way in WAYS[options.labels]]
    lines = [line for given in studies for line in lines_of(*given)]
    variants = {line["variant"]: line["settings"] for line in lines}
    print(table({"data": studies[-1][0]["data"], "variants": variants}, lines, options.against, options.only))


if __name__ == "__main__":
    main()
