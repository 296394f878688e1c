"""The command line, and the measurements of each call in their order: those that matter most come first."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from acceptance.record import Record, machine
from acceptance.subjects import AT_ONCE, NETWORKS, VIT, Network, Setting

_LIMITS = {"right": 170.0, "fast": 400.0, "learns": 350.0}  # seconds after which no measurement begins
_LEARNING_SECONDS = 75.0  # of training, for each method
_METHODS = ("pnnclr", "nnclr", "simclr", "dcl", "moco", "byol", "simsiam", "barlow", "vicreg", "dino", "supervised")


def right(record: Record, setting: Setting) -> None:
    """What the device computes is what the CPU computes."""
    from acceptance import machinery, numbers, states

    tiny = setting.tiny
    record.measure("bad step", states.bad_step, setting)
    record.measure("look-up", numbers.look_up, setting)
    record.measure("resume", states.resume, setting)
    for recipe, size, channels, bits in (("natural", 32, 3, 8), ("natural", 96, 3, 16), ("chest_xray", 64, 1, 8)):
        record.measure(f"views {recipe} {size} px {bits} bits", numbers.views, recipe, size, channels, bits, setting)
    networks = (setting.resnet18, Network("resnet50", 224, channels=1), Network("vit_small_patch16_224", 224))
    for network in networks[: 1 if tiny else None]:
        record.measure(f"encoder {network.model} {network.size} px", states.encoder, network, setting)
    record.measure("one process in a group", machinery.one_process, setting)
    record.measure("memory of the support set", machinery.memory_of_support_set, setting)
    record.measure("out of memory", machinery.out_of_memory, setting)
    for name in _METHODS[: 1 if tiny else None]:
        record.measure(f"loss and gradient {name}", numbers.losses, name, setting)
        record.measure(f"host waits {name}", states.host_waits, name, setting)
    record.measure("loss and gradient pnnclr with random steps", numbers.losses, "pnnclr", setting, **AT_ONCE, noise=0.1, alpha=(0.5, 1.0))
    record.measure("host waits nnclr with clusters", states.host_waits, "nnclr", setting, clusters=8)


_TINY_NETWORKS = (Network("resnet18", 16, 4), Network(VIT, 16, 4, arguments={"img_size": 16, "patch_size": 8}))


def fast(record: Record, setting: Setting) -> None:
    """How fast it is, beside the card's limits and beside lightly. What compiles comes last, as compiling takes minutes."""
    from acceptance import speed, surroundings

    tiny, networks = setting.tiny, list(_TINY_NETWORKS if setting.tiny else NETWORKS)
    record.measure("card", surroundings.card, setting)
    peak = 1e12 * record.rows.get("card", {}).get("TFLOP_per_s", float("nan"))
    for network in networks:
        record.measure(f"training {network}", speed.training, network, setting, peak)
    for network in networks[:1] if tiny else networks[:3]:
        if importlib.util.find_spec("lightly"):
            from acceptance.beside import beside_lightly

            record.measure(f"beside lightly {network}", beside_lightly, network, setting)
        else:
            record.write(f"beside lightly {network}", {"skipped": "lightly is not installed"})
    record.measure("look-up", surroundings.look_up, setting)
    record.measure("monitors", surroundings.monitors, setting)
    for network in networks[:1] if tiny else (networks[0], networks[2], networks[5]):
        record.measure(f"profile {network}", speed.profile, network, setting)
    for network, changes in _changes(networks, tiny):
        record.measure(f"variant {network} {changes}", speed.variant, network, setting, **changes)


def _changes(networks: Sequence[Network], tiny: bool) -> Iterator[tuple[Network, dict[str, Any]]]:
    """What is changed in a training, one thing at a time; the rows "training" have the training without a change."""
    small, large = networks[0], networks[-1 if tiny else 5]
    yield from ((small, {"feed": bits}) for bits in (8, 16))
    if tiny:
        return
    yield from ((network, {"feed": 8}) for network in (networks[2], large))
    yield from ((network, {"benchmark": True}) for network in (small, large))
    yield from ((small, {"method": name}) for name in ("nnclr", "simclr"))
    yield small, {"momentum": 0.0}
    yield small, {"compiled_views": True}
    yield from ((network, {"compile": mode}) for mode in ("default", "reduce-overhead", "step") for network in (small, large))
    yield small, {"compiled_views": True, "compile": "step"}


def learns(record: Record, setting: Setting, archive: Path | None) -> None:
    """The three methods on CIFAR-10, each for a third of the time."""
    if archive is None:
        record.write("CIFAR-10", {"skipped": "no archive: name it with --cifar"})
        return
    from acceptance import cifar, learning

    data = cifar.read(archive, 4 if setting.tiny else None)
    record.write("CIFAR-10", {"training_images": len(data.train), "test_images": len(data.test)})
    for name in ("pnnclr", "nnclr", "simclr"):
        record.measure(f"learns {name}", learning.learn, name, data, 0.1 if setting.tiny else _LEARNING_SECONDS, setting, record)


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 where a measurement failed."""
    parser = argparse.ArgumentParser(prog="acceptance", description=__doc__)
    parser.add_argument("call", choices=list(_LIMITS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out")) / "gpu.jsonl", help="the file of results")
    parser.add_argument("--limit", type=float, help="seconds after which no measurement begins")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of the names of the measurements to run")
    parser.add_argument("--cifar", type=Path, help="the archive of CIFAR-10, for the call learns")
    parser.add_argument("--tiny", action="store_true", help="small networks and few images: a test of these programs")
    options = parser.parse_args(arguments)
    setting = Setting(torch.device(options.device), options.tiny)
    record = Record(options.out, options.limit or _LIMITS[options.call], options.only)
    record.write("machine", {"call": options.call, **machine(setting.device), "tiny": options.tiny})
    match options.call:
        case "right":
            right(record, setting)
        case "fast":
            fast(record, setting)
        case "learns":
            learns(record, setting, options.cifar)
    record.finish()
    return int(bool(record.failed))


if __name__ == "__main__":
    sys.exit(main())
