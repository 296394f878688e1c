"""How many neighbours have the label of their image, and would another rule choose better ones? For a finished pretraining with labels.

    medssl pretrain --data cifar5k.npz --preset natural_cpu --method simclr --out runs/simclr
    python pipelines/neighbour_agreement.py runs/simclr

RUN is the folder of a pretraining with a projector (simclr, nnclr, pnnclr), which is not changed. Each training image is projected once, by
the network as it is at the end. The first half of the images is the support set, and the others look up. Labels only count: the rules do
not see them. Printed are, for each rule, the share of the images to which it gives a neighbour, and how many of these have the label of
the image. "at random" is the share of pairs with one label; a rule that gives fewer neighbours is to be compared at its share.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from compare_pretraining import Quiet
from neighbour_rules import are_similar, is_mutual
from torch import Tensor

from medssl.nn import l2_normalize
from medssl.pretraining.trainer import build_training, restore
from medssl.runs.dataset import prepare_dataset
from medssl.runs.resolve_config import list_source
from medssl.runs.run_dir import load_config
from medssl.train import checkpoint
from medssl.train.launch import Launch
from medssl.train.processes import Team


def projected(folder: Path) -> dict[str, Tensor]:
    """Unit vectors [n, d] of the training images of a run, in the order of its last whole epoch: "first" and "second", the projections of
    two views; "whole", of the image as it is stored; "features", the encoder's of the second view. And their labels, "label"."""
    config, (state, _) = load_config(folder), checkpoint.load(folder)
    dataset = prepare_dataset(list_source(config.data), config, Quiet())
    job = build_training(folder, config, dataset, Team(Launch()), state)
    restore(job, state)
    method, epoch = job.method.eval(), job.feed.steps_per_epoch
    begin = max(state["step"] // epoch - 1, 0) * epoch
    parts: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for step in range(begin, begin + epoch):
            batch = job.feed.batch(step)
            assert batch.labels is not None
            whole = torch.from_numpy(dataset.store.inputs[batch.rows.numpy()])
            features = [method.encoder(images) for images in (*batch.views[:2], whole)]
            first, second, of_whole = (l2_normalize(method.projector(each)) for each in features)
            of_second = l2_normalize(features[1])
            parts.append({"first": first, "second": second, "whole": of_whole, "features": of_second, "label": batch.labels})
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    known = found["label"] >= 0
    if not known.any():
        raise SystemExit(f"The images of {folder} have no labels: there is nothing to count.")
    return {name: values[known] for name, values in found.items()}


def agreements(of: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """{rule: (share of the images that get a neighbour, share of these neighbours with the label of the image)}."""
    half = len(of["label"]) // 2
    rows, asked = ({name: values[part] for name, values in of.items()} for part in (slice(half), slice(half, None)))

    def look_up(asking: Tensor, name: str) -> Tensor:
        return (asking @ rows[name].T).argmax(dim=1)

    def agreement(index: Tensor, kept: Tensor | None = None) -> tuple[float, float]:
        right = (rows["label"][index] == asked["label"]).double()
        return (1.0, float(right.mean())) if kept is None else (float(kept.double().mean()), float(right[kept].mean()))

    nearest, nearest_whole = look_up(asked["second"], "first"), look_up(asked["whole"], "whole")
    near, near_whole = rows["first"][nearest], rows["whole"][nearest_whole]
    closer = ((near - asked["first"]) * asked["second"]).sum(dim=1) > 0
    classes = [torch.bincount(part["label"], minlength=int(of["label"].max()) + 1) / len(part["label"]) for part in (rows, asked)]
    return {
        "at random": (1.0, float((classes[0] * classes[1]).sum())),
        "nearest row (pnnclr)": agreement(nearest),
        "nearest by the encoder's features": agreement(look_up(asked["features"], "features")),
        "nearest to the mean of both views": agreement(look_up(asked["first"] + asked["second"], "first")),
        "whole images, among whole images": agreement(nearest_whole),
        "nearest, where no other image is closer to the neighbour": agreement(nearest, is_mutual(near, asked["second"])[:, 0]),
        "nearest, where both views have the same": agreement(nearest, nearest == look_up(asked["first"], "first")),
        "nearest, where closer than the other view": agreement(nearest, closer),
        "nearest, the more similar half": agreement(nearest, are_similar(near, asked["second"], 0.5)[:, 0]),
        "nearest, the most similar quarter": agreement(nearest, are_similar(near, asked["second"], 0.25)[:, 0]),
        "whole images, the most similar quarter": agreement(nearest_whole, are_similar(near_whole, asked["whole"], 0.25)[:, 0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true", help="print a line of JSON in place of the table")
    options = parser.parse_args()
    found: dict[str, Any] = agreements(projected(options.run))
    if options.json:
        print(json.dumps({"run": options.run.name, **found}))
        return
    print("| rule | images with a neighbour | neighbours with the label of the image |\n|---|---|---|")
    for rule, (share, right) in found.items():
        print(f"| {rule} | {share:.2f} | {right:.3f} |")


if __name__ == "__main__":
    main()
