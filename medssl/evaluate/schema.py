"""results.json as a model: what evaluate.results writes, and what report, compare and studies read."""

import json
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medssl.config import MAX_BOOTSTRAPS
from medssl.data.patients import PatientOrigin
from medssl.errors import UserError
from medssl.evaluate.task import Counted, Kind

FORMAT = 2
RESULTS, PREDICTIONS, SPLITS = "results.json", "predictions.parquet", "splits.json"


class _Part(BaseModel):
    """A part of the document: immutable, every key known, no number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Facts(BaseModel):
    """A part that may hold more than what is read of it: what store and encoder know of themselves."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Score(_Part):
    """A mean over the draws with the ends of its interval, null where there is none."""

    mean: float
    low: float | None
    high: float | None


class Range(_Part):
    """The smallest and the largest of the draws' counts."""

    low: int
    high: int


class Counts(_Part):
    """Labelled images and their patients."""

    n_labels: int
    n_patients: int


class ClassCounts(_Part):
    """Images of one class, or images with one of several labels, that may give labels (`pool`) and that are tested."""

    name: str
    pool: int
    test: int


class TaskFacts(_Part):
    """The task: its classes, and what gives labels and is tested: `counted`, images, volumes of all their slices, or whole volumes.
    `copies_left_out`: labelled training images, or volumes, that are copies of tested ones."""

    column: str
    kind: Kind
    classes: tuple[ClassCounts, ...]
    pool: Counts
    test: Counts
    copies_left_out: int
    counted: Counted = "images"


class IntervalFacts(_Part):
    """How the intervals were made: level, number of resamples, and what was resampled. `warning`: why they must not be trusted, or ""."""

    level: float = Field(gt=0, lt=1)
    bootstraps: int = Field(ge=1, le=MAX_BOOTSTRAPS)
    over: str
    warning: str = ""


class CellRow(_Part):
    """One classifier. `labels`: the amount, as "10pct"; `test`: its scores by name; `temperature`: the divisor of its logits."""

    fraction: float
    labels: str
    draw: int
    mode: str
    init: str
    n_labels: int
    n_patients: int
    temperature: float
    test: dict[str, float]


class ClassRow(_Part):
    """One class against the rest, or one of several labels."""

    name: str
    auroc: Score
    auprc: Score


class SummaryRow(BaseModel):
    """All draws of an amount of labels, mode and initialisation. Beside `auroc` every other metric of the task has its score."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Score] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    fraction: float
    labels: str
    mode: str
    init: str
    draws: int
    n_labels: Range
    n_patients: Range
    auroc: Score
    per_class: tuple[ClassRow, ...] = ()

    def score(self, metric: str) -> Score:
        """The score of a metric of the task."""
        return getattr(self, metric)


class Gain(_Part):
    """A paired difference in AUROC with the ends of its interval."""

    fraction: float
    labels: str
    auroc_gain: float
    low: float | None
    high: float | None


class PairedRow(_Part):
    """What the first initialisation gains over another one. `p_delong`: None with more than two classes, or where nothing can be told."""

    fraction: float
    labels: str
    mode: str
    versus: str
    auroc_gain: float
    low: float | None
    high: float | None
    p_delong: float | None


class LabelsSaved(_Part):
    """The first initialisation at each amount of labels against the random one with all labels (`auroc`). `reached`: the first amount that
    is not inferior, whose gain has a lower end of at least -`margin`; None where there is none, and where the random one is `at_chance`,
    that is, where its interval does not lie above 0.5: there is nothing to be reached then."""

    versus: str
    at: str
    mode: str
    auroc: Score
    margin: float
    at_chance: bool
    reached: str | None
    by_fraction: tuple[Gain, ...]


class SubgroupRow(BaseModel):
    """A group of the test images. Each metric has its score, None where the group does not allow one. `small`: it says little."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Score | None] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    by: str
    value: str
    n_labels: int
    n_patients: int
    positives: int | None
    small: bool
    labels: str
    mode: str
    init: str

    def score(self, metric: str) -> Score | None:
        """The score of a metric of the task."""
        return getattr(self, metric)


class SiteProbe(_Part):
    """How well a linear classifier tells the site from frozen features. `chance`: the share of the largest site."""

    sites: dict[str, int]
    chance: float
    accuracy: Score | None
    auroc: Score | None


class DataFacts(_Facts):
    """The data set: its name, and what the store's card says. `patients`: where they come from, as `PatientOrigin`."""

    name: str = ""
    source: str = ""
    fingerprint: str = ""
    patients: dict[str, Any] = {}

    @property
    def origin(self) -> PatientOrigin:
        return PatientOrigin.by({"patients": self.patients})


class EncoderFacts(_Facts):
    """As its card says. `pretraining`: "patients" and "pixels" seen, of `samples`; `patients`: their origin; `start`: weights before it."""

    method: dict[str, Any] = {}
    backbone: dict[str, Any] = {}
    weights_sha256: str = ""
    facts: dict[str, Any] = {}
    provenance: dict[str, str] = {}
    pretraining: dict[str, int] = {}
    samples: str = "images"
    patients: dict[str, Any] = {}
    start: dict[str, Any] = {}


class RunFacts(_Facts):
    """How the run was started."""

    preset: str = ""
    seed: int = 0
    command: str = ""


class LeakCheck(_Part):
    """How many test patients and images were looked for among what pretraining saw, and how many images were found there."""

    patients: int
    images: int
    leaked: int


class RunDescription(_Part):
    """What is known of a fine-tuning besides its scores; absent where it was not started by the command. `audit`: that of the store."""

    data: DataFacts = DataFacts()
    encoder: EncoderFacts = EncoderFacts()
    leak_check: LeakCheck | None = None
    run: RunFacts = RunFacts()
    audit: dict[str, Any] | None = None


class Splits(_Part):
    """splits.json: keys of the images that were tested and, by amount of labels, that each draw took. `sha256`: of the rest as JSON."""

    sha256: str
    column: str
    test: tuple[str, ...]
    draws: dict[str, tuple[tuple[str, ...], ...]]


class ResultsDocument(_Part):
    """The whole file. The five parts after the format are those of `RunDescription`."""

    format: Literal[2]
    data: DataFacts = DataFacts()
    encoder: EncoderFacts = EncoderFacts()
    leak_check: LeakCheck | None = None
    run: RunFacts = RunFacts()
    audit: dict[str, Any] | None = None
    task: TaskFacts
    interval: IntervalFacts
    cells: tuple[CellRow, ...]
    summary: tuple[SummaryRow, ...]
    paired: tuple[PairedRow, ...]
    labels_saved: LabelsSaved | None
    subgroups: tuple[SubgroupRow, ...] = ()
    site_probe: SiteProbe | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the parts that were given, and no others."""
        return self.model_dump(mode="json", exclude_unset=True)


def read_results(run: Path) -> ResultsDocument:
    """A run's results.json. Raises UserError that names the run where it is missing, damaged or of another format."""
    if not (path := run / RESULTS).is_file():
        raise UserError(f"{run} holds no {RESULTS}: the fine-tuning is not finished. Name another run, or run `medssl finetune` again.")
    try:
        values = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}). Fine-tune again, or leave that run out.") from None
    if (written := values.get("format") if isinstance(values, dict) else None) != FORMAT:
        raise UserError(f"{path} has format {written!r}, and this medssl reads {FORMAT}. Fine-tune again, or leave that run out.")
    try:
        document = ResultsDocument.model_validate(values)
    except ValidationError as error:
        wrong = "\n".join(f"  {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError(f"{path} is not complete. Fine-tune again, or leave that run out.\n{wrong}") from None
    if not document.summary:
        raise UserError(f"{path} holds no score. Fine-tune again, or leave that run out.")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
