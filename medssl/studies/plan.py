"""A study from a YAML file: encoders x data sets x modes, each a fine-tuning at all label fractions. What is to do, and what is done.

A study is a folder: OUT/DATA/pretrain-ENCODER and OUT/DATA/MODE-ENCODER are ordinary run folders, OUT/cells holds the test probabilities
of every classifier, OUT/study.yaml what the study was started with. A finished run is not run again, a stopped one goes on.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import AfterValidator, Field, model_validator

from medssl.config import Config, Finetune, Frozen, merge, parse_overrides, resolve, resolve_part, to_yaml
from medssl.data.split import LabelFraction, parse_labels
from medssl.data.store import SETTINGS
from medssl.encoder.artefact import CARD
from medssl.errors import UserError, suggest
from medssl.evaluate import DRAWS_ABOVE, SMALL, read_results
from medssl.files import write_atomically
from medssl.plain_yaml import read_yaml
from medssl.runs import presets
from medssl.runs import run_dir as run_folder
from medssl.train.checkpoint import LAST, NEXT, PREVIOUS

STUDY, CELLS = "study.yaml", "cells"
_GROWS = {"data", "encoders", "modes"}


def _name(name: str) -> str:
    """What may be a folder's name anywhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
        raise ValueError(f"{name!r} cannot be a name here: letters, digits, . _ - only, as it names a folder")
    return name


def _mode(name: str) -> str:
    known = get_args(Finetune.model_fields["mode"].annotation)
    if name not in known:
        raise ValueError(f"unknown mode {name!r}. {suggest(name, known)}")
    return name


def _labels(text: str) -> str:
    parse_labels(text)
    return text


def _settings(items: tuple[str, ...]) -> tuple[str, ...]:
    parse_overrides(items)
    return items


Name = Annotated[str, AfterValidator(_name)]
Settings = Annotated[tuple[str, ...], AfterValidator(_settings)]


class DataSet(Frozen):
    """`path`: as --data takes it. `set`: what belongs to it alone, such as data.label=pneumonia."""

    path: str
    set: Settings = ()


class Encoder(Frozen):
    """`encoder`: a finished pretraining run or an encoder file, one for all data sets or one for each, by its name. Without it one is
    pretrained on each data set, with `method`, `preset` and `set` as `medssl pretrain` takes them."""

    encoder: str | dict[Name, str] | None = None
    method: str | None = None
    preset: str | None = None
    set: Settings = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> "Encoder":
        if self.encoder is not None and (self.method or self.preset or self.set):
            raise ValueError("names a finished encoder, so method, preset and set have nothing to say")
        return self


class Study(Frozen):
    """`out`: the study's folder. `draws`: of each fraction, see `medssl.evaluate.experiment`. `set`: further settings of all pretrainings
    and fine-tunings. Paths are those of the place where the study is started."""

    out: str
    data: dict[Name, DataSet] = Field(min_length=1)
    encoders: dict[Name, Encoder] = Field(min_length=1)
    labels: Annotated[str, AfterValidator(_labels)] = "1pct,10pct,100pct"
    modes: tuple[Annotated[str, AfterValidator(_mode)], ...] = Field(default=("linear",), min_length=1)
    draws: int = Field(default=5, ge=1)
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    set: Settings = ()


@dataclass(frozen=True)
class Job:
    """One command of medssl. `name`: DATA/RUN. `folder`: its run folder. `arguments`: as the command's function takes them, paths as
    text. `after`: the names of the jobs that it needs. `cells`: how many classifiers it fits."""

    name: str
    command: str
    folder: Path
    arguments: dict[str, Any]
    after: tuple[str, ...] = ()
    cells: int = 0


def read_study(path: Path) -> Study:
    """The study that a YAML file describes. Raises UserError that lists every wrong key, a misspelt one with its nearest."""
    if not path.is_file():
        raise UserError(f"There is no study {path}. Name a YAML file such as pipelines/label_fractions.yaml.")
    values = read_yaml(path)
    for part, model in (("data", DataSet), ("encoders", Encoder)):
        if isinstance(named := values.get(part), Mapping):
            values[part] = {str(name): resolve_part(model, _whole(model, of), f"{part}.{name}") for name, of in named.items()}
    study = resolve_part(Study, values)
    for name, encoder in study.encoders.items():
        for missing in study.data.keys() - encoder.encoder.keys() if isinstance(encoder.encoder, dict) else ():
            raise UserError(f"encoders.{name}.encoder names none for the data set {missing!r}. Add it, or name one path for all.")
        if encoder.encoder is None:  # a misspelt setting is told now, not hours later
            base = presets.load(encoder.preset) if encoder.preset else Config().model_dump(mode="json")
            method = {"method": encoder.method} if encoder.method else {}
            resolve(merge(merge(base, method), parse_overrides([*study.set, *encoder.set])))
    return study


def _whole(model: type[Frozen], value: Any) -> Any:
    """A data set as a mapping where its path alone is given, an encoder where nothing is."""
    return {"path": value} if isinstance(value, str) and model is DataSet else {} if value is None else value


def save_study(study: Study) -> None:
    """Write study.yaml into the study's folder. Raises UserError where another study was started there, saying what differs.

    Data sets, encoders and modes may be added: what is finished stays true.
    """
    path = Path(study.out) / STUDY
    if path.is_file():
        old, new = _flat(resolve_part(Study, read_yaml(path))), _flat(study)
        changed = {key for key in old if new.get(key) != old[key]} | {key for key in new.keys() - old.keys() if key[0] not in _GROWS}
        if changed:
            told = "\n".join(f"  {'.'.join(key)}: was {old.get(key)!r}, is {new.get(key)!r}" for key in sorted(changed))
            raise UserError(f"{study.out} holds another study, which was started with\n{told}\nName another out, or go on as it was.")
    write_atomically(path, f"# medssl study\n{to_yaml(study)}".encode())


def _flat(study: Study) -> dict[tuple[str, ...], Any]:
    """Every setting by its key; a mode is one of its own."""
    values = yaml.safe_load(to_yaml(study))
    flat: dict[tuple[str, ...], Any] = {("modes", mode): True for mode in values.pop("modes")}
    for part in ("data", "encoders"):
        flat |= {(part, name, key): value for name, of in values.pop(part).items() for key, value in of.items()}
    return flat | {(key,): value for key, value in values.items() if key not in {"out", "device"}}


def plan_jobs(study: Study) -> list[Job]:
    """Every pretraining and fine-tuning of the study, finished or not."""
    return [job for data in study.data for name in study.encoders for job in _of_encoder(study, data, name)]


def _of_encoder(study: Study, data: str, name: str) -> Iterator[Job]:
    place, encoder, of = Path(study.out) / data, study.encoders[name], study.data[data]
    common = {"data": of.path, "seed": study.seed, "device": study.device}
    after: tuple[str, ...] = ()
    if encoder.encoder is None:
        path, sets = place / f"pretrain-{name}", (*study.set, *of.set, *encoder.set)
        given = {"method": encoder.method, "preset": encoder.preset, **common, "out": str(path), "sets": sets}
        pretrain = Job(f"{data}/{path.name}", "pretrain", path, given)
        after = (pretrain.name,)
        yield pretrain
    else:
        path = Path(encoder.encoder if isinstance(encoder.encoder, str) else encoder.encoder[data])
    for mode in study.modes:
        folder, sets = place / f"{mode}-{name}", (f"finetune.draws={study.draws}", *study.set, *of.set)
        given = {"labels": study.labels, "mode": mode, "encoder": str(path), **common, "out": str(folder), "sets": sets}
        given["cells"] = str(Path(study.out) / CELLS)
        yield Job(f"{data}/{folder.name}", "finetune", folder, given, after, _cells(study, mode))


def _cells(study: Study, mode: str) -> int:
    """Classifiers of one fine-tuning: encoder, random initialisation, raw pixels. Each draw has its own random initialisation. What is
    fitted without chance is the same in all draws of all labels: raw pixels always, the encoder unless the whole network is trained."""
    fractions = parse_labels(study.labels)
    draws = [_draws(study, wanted) for wanted in fractions]
    once = sum(1 if wanted.share == 1 else n for wanted, n in zip(fractions, draws, strict=True))
    return (sum(draws) if mode == "full" else once) + sum(draws) + once


def _draws(study: Study, wanted: LabelFraction) -> int:
    """Of a number of patients the share is not known before the data is: as of a small one."""
    return study.draws if wanted.share is None or wanted.share <= SMALL else min(study.draws, DRAWS_ABOVE)


def is_finished(job: Job) -> bool:
    """Whether its run folder holds what it makes, whole. Raises UserError for scores of another encoder than the one that is there now."""
    if job.command == "pretrain":
        return run_folder.is_finished(job.folder)
    try:
        document = read_results(job.folder)
    except UserError:
        return False
    origin = job.arguments["encoder"]
    card = _card(origin)
    if card and card.get("weights_sha256") != document.encoder.weights_sha256:
        raise UserError(f"{job.folder} was made with another encoder than {origin} holds now. Name another out, or delete that run.")
    return True


def _card(encoder: str) -> dict[str, Any]:
    """Of an encoder's run or file; empty where there is none that can be read, which its fine-tuning then says."""
    origin = Path(encoder)
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(((origin if origin.is_dir() else origin.parent) / CARD).read_text("utf-8")))
    return {}


def pending_jobs(jobs: list[Job]) -> list[Job]:
    """The jobs that are still to do, as they must be called: stopped pretrainings go on, what has no checkpoint begins again."""
    tunings = [job for job in jobs if job.command == "finetune" and not is_finished(job)]
    needed = {name for job in tunings for name in job.after}
    trainings = [job for job in jobs if job.name in needed and not is_finished(job)]
    open_names = {job.name for job in trainings}
    return [_called(job, open_names) for job in (*trainings, *tunings)]


def _called(job: Job, open_names: set[str]) -> Job:
    arguments = dict(job.arguments)
    if job.command == "pretrain" and any((job.folder / name).is_file() for name in (NEXT, LAST, PREVIOUS)):
        arguments = {"resume": str(job.folder)}
    else:
        arguments["overwrite"] = True
    return replace(job, arguments=arguments, after=tuple(name for name in job.after if name in open_names))


def with_preparation_jobs(jobs: list[Job]) -> list[Job]:
    """The jobs, and before those that share a data set one that reads its images: two at a time would both read all of them."""
    wanted: dict[str, list[Job]] = {}
    for job in jobs:
        if not job.after and "resume" not in job.arguments and (given := _prepared_by(job)):
            wanted.setdefault(json.dumps(given), []).append(job)
    before: dict[str, Job] = {}
    for number, (given, users) in enumerate(wanted.items(), 1):
        if len(users) > 1:
            place = users[0].folder.parent
            first = Job(f"{place.name}/prepare-{number}", "prepare", place / f"prepare-{number}", json.loads(given))
            before |= {job.name: first for job in users}
    firsts = {job.name: job for job in before.values()}
    return [*firsts.values(), *(replace(job, after=(before[job.name].name,)) if job.name in before else job for job in jobs)]


def _prepared_by(job: Job) -> dict[str, Any] | None:
    """The arguments of `medssl prepare` for what a job reads; None where its encoder is not there to say."""
    given, sets = job.arguments, [item for item in job.arguments["sets"] if item.startswith("data.")]
    if job.command == "finetune":
        data = _card(given["encoder"]).get("config", {}).get("data", {})
        if not data:
            return None
        sets += [f"data.{name}={json.dumps(data[name])}" for name in SETTINGS]
    return {"data": given["data"], "preset": given.get("preset"), "sets": sorted(sets)}
