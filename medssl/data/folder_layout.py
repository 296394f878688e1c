"""What the folders of images stand for: splits, classes, patients, or nothing but an order of files. Every decision is said."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from medssl.config import PluginConfig
from medssl.data.person_names import are_called_patients, are_patients, name_a_person
from medssl.data.tables import parse_split
from medssl.errors import UserError

MAX_CLASSES = 20  # more folders are told as what they are, but are rarely classes below a patient
_COUNT_SAYS_NOTHING = 10**9  # images, with which no number of folders is too many for classes
_MAX_FILES_OF_PATIENT = 20  # on average; one or two folders with more files are no patients
_SUBJECT = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)")  # BIDS 1.10, "Filesystem structure"
_SHORT_NAME_OF_PATIENT = re.compile(r"(p|pt)[-_ ]?\d+", re.IGNORECASE)
_NUMBER_OF_PATIENT = re.compile(r"\d{4}")
_PART = re.compile(
    r"(images?|imgs?|pictures?|photos?|pngs?|jpe?gs?|dicoms?|dcm|nifti|nii|data|files?|frames?|slices?|raw|preprocessed|processed|anat|func|"
    r"dwi|perf|fmap|masks?|images?T[rs]|labels?T[rs])|.*(images?|part|batch|chunk|archive|shard|fold)[-_ ]?\d+.*",
    re.IGNORECASE,
)
_STUDY = re.compile(
    r"(study|stud|ses|session|visit|series|ser|exam|scan|view|st|s|se|day|week|month|time|t|acq|run)[-_ ]?\d+|baseline|follow-?up",
    re.IGNORECASE,
)
_SIDE = re.compile(
    r"left|right|l|r|os|od|[lr]?_?(cc|mlo)|ap|pa|lat|lateral|frontal|axial|ax|coronal|cor|sagittal|sag|t1|t1w|t2|t2w|flair|t1ce|t1c|pd|adc|dwi",
    re.IGNORECASE,
)


_SEQUENCE = re.compile(r"[-_. ](000\d|t1|t1w|t1n|t1c|t1ce|t1gd|t2|t2w|t2f|flair|pd|pdw|adc|dwi|swi|bold|mra|ct|pet|suv)$", re.IGNORECASE)
_DATE = re.compile(r"(19|20)\d\d([-_.]?(0[1-9]|1[0-2])([-_.]?[0-3]\d)?)?|[0-3]?\d[-_.][01]?\d[-_.]((19|20)\d\d|\d\d)")
_NO_CLASS = re.compile(r"un-?label+ed|no[-_ ]?labels?|not[-_ ]label+ed|unknown|unsorted|unclassified|unannotated", re.IGNORECASE)


Meaning = Literal["auto", "classes", "patients", "none"]
_SAY = "--set data.source.folders="


class FoldersConfig(PluginConfig):
    """The option of a source whose folders may stand for something."""

    folders: Meaning = Field(
        default="auto",
        description="What the folders of the images stand for: classes, patients, or none of them; auto tells this by their names and "
        "numbers. Folders called train, val and test are splits in any case.",
    )


class Layout(NamedTuple):
    """For each file, in their order: its split, class and patient, None where its folders say none; and notes for a person."""

    splits: Sequence[str | None]
    classes: Sequence[str | None]
    patients: Sequence[str | None]
    notes: list[str]


def understand_folders(locators: Sequence[str], meaning: Meaning = "auto") -> Layout:
    """What the folders of images stand for: what `meaning` says, or what their names and numbers tell.

    A folder that holds all files is entered. Folders named train, val and test at one depth are splits. Then PATIENT/CLASS, CLASS/PATIENT,
    or either of them alone; parts such as images_001, dates and studies such as study1 are neither. Raises UserError where images lie
    beside the folders of a split.
    """
    folders, splits, notes = _enter(locators, refuse_outside=True)
    nothing: list[str | None] = [None] * len(locators)
    every = [(level, names) for level, names in _levels(folders) if len(names) > 1]
    unnamed = [level for level, names in _levels(folders) if _matches_all(_PART, names) or _matches_all(_DATE, names)]
    levels = [(level, names) for level, names in every if level not in unnamed and not _matches_all(_STUDY, names)]
    if meaning != "auto":
        levels = levels or every
    if not levels or meaning == "none":
        if not levels and any(level in unnamed for level, _ in every):
            notes.append("the folders are not taken as classes: their names are those of parts of the data, or dates")
        return Layout(splits, nothing, nothing, notes)
    first, names = levels[0]
    if "" in names and meaning == "auto":
        return Layout(splits, nothing, nothing, [*notes, "no classes from the folders: some images are outside them"])
    of_patients = meaning == "patients" or are_patients(names, len(locators)) or _have_short_names_of_patients(names)
    if meaning == "auto" and name_a_person(names) and not of_patients:
        notes.append(
            "no classes and no patients from the folders: too few or not all of them are named like a person. Say what they are: "
            f"{_SAY}classes or {_SAY}patients"
        )
        return Layout(splits, nothing, nothing, notes)
    if of_patients and meaning != "classes":
        return _below_patients(levels, folders, splits, notes, meaning)
    classes, of_classes = _classes(folders, first)
    inner = next((level for level, inside in levels[1:] if "" not in inside and _named_like_patients(inside)), None)
    patients = nothing if inner is None else [parts[inner] for parts in folders]
    notes += of_classes
    if len(names) > MAX_CLASSES and meaning == "auto":
        notes.append(f"if these {len(names)} folders are patients and no classes: {_SAY}patients")
    if inner is not None:
        notes.append(f"{len(set(patients))} folders below the classes taken as patients")
    return Layout(splits, classes, patients, notes)


def _below_patients(
    levels: Sequence[tuple[int, set[str]]],
    folders: Sequence[Sequence[str]],
    splits: Sequence[str | None],
    notes: Sequence[str],
    meaning: Meaning,
) -> Layout:
    """The layout where the folders of the first level are patients: those of a level below may be classes."""
    first, names = levels[0]
    patients = [parts[first] if len(parts) > first else None for parts in folders]
    notes = [*notes, f"{len(names - {''})} folders taken as patients"]
    if meaning == "auto" and not are_called_patients(names):
        notes.append(f"if these folders are classes and no patients: {_SAY}classes")
    inner = _class_level(levels[1:], folders, patients)
    if inner is None:
        return Layout(splits, [None] * len(folders), patients, notes)
    classes, of_classes = _classes(folders, inner, " below those of the patients")
    return Layout(splits, classes, patients, notes + of_classes)


def understand_classes(locators: Sequence[str], patients: Sequence[str | None]) -> Layout:
    """Splits and classes of files whose patients are known from headers. Folders are classes where they hold several patients, and where
    nearly every patient is in one of them only: the folders of patients and of series are none."""
    folders, splits, notes = _enter(locators, refuse_outside=False)
    nothing: list[str | None] = [None] * len(locators)
    for level, names in _levels(folders):
        told = _are_parts(names) or _named_like_patients(names)
        if "" in names or told or not 2 <= len(names) <= MAX_CLASSES:
            continue
        patients_in, folders_of = defaultdict(set), defaultdict(set)
        for parts, patient in zip(folders, patients, strict=True):
            patients_in[parts[level]].add(patient)
            folders_of[patient].add(parts[level])
        in_one = sum(len(found) == 1 for found in folders_of.values())
        if max(map(len, patients_in.values())) > 1 and in_one >= 0.9 * len(folders_of):
            classes, of_classes = _classes(folders, level)
            return Layout(splits, classes, nothing, notes + of_classes)
    return Layout(splits, nothing, nothing, notes)


def understand_volumes(locators: Sequence[str], meaning: Meaning = "auto") -> Layout:
    """Splits, classes and patients of files that are a volume each. The patient is a BIDS subject (sub-01), else a folder of a few files
    where folders are patients, else the case whose sequences the files are (007_t1, 007_flair), else the file. Folders are classes where
    they are few, have words as names, and hold several cases each: folders or files with numbers, and not files named like their
    sequences (t1, flair). `meaning` says in place of that what the folders stand for."""
    folders, splits, notes = _enter(locators, refuse_outside=False)
    subjects = [found[1] if (found := _SUBJECT.search(locator)) else None for locator in locators]
    names = {parts[0] if parts else "" for parts in folders}
    classes: list[str | None] = [None] * len(locators)
    if meaning == "classes" or (meaning == "auto" and _are_classes_of_volumes(names, folders, locators)):
        classes, of_classes = _classes(folders, 0)
        notes += of_classes
        folders = [parts[1:] for parts in folders]
        names = {parts[0] if parts else "" for parts in folders}
    known = names - {""}
    few = 1 < len(known) >= len(locators) / _MAX_FILES_OF_PATIENT
    guessed = meaning in ("auto", "classes") and not _are_parts(known) and (few or are_patients(known, len(locators)))
    by_folder = bool(known) and (meaning == "patients" or guessed)
    cases = _cases(locators)
    patients = [
        subject or (parts[0] if by_folder and parts else cases.get(locator, locator))
        for subject, parts, locator in zip(subjects, folders, locators, strict=True)
    ]
    return Layout(splits, classes, patients, notes)


def _cases(locators: Sequence[str]) -> dict[str, str]:
    """{file: its case} where files are named like the sequences of three cases or more, as in 007_t1 and 007_flair, or 007_0000 and
    007_0001, the channels of nnU-Net."""
    files_of: dict[str, list[str]] = defaultdict(list)
    for locator in locators:
        stem = re.sub(r"(?i)\.(nii|img|hdr)(\.gz)?$", "", locator)
        if found := _SEQUENCE.search(stem):
            files_of[stem[: found.start()]].append(locator)
    several = {case: files for case, files in files_of.items() if len(files) > 1}
    return {file: case for case, files in several.items() for file in files} if len(several) > 2 else {}


def _are_classes_of_volumes(names: Collection[str], folders: Sequence[Sequence[str]], locators: Sequence[str]) -> bool:
    told = _are_parts(names) or _are_numbered(names) or _named_like_patients(names) or name_a_person(names)
    if "" in names or told or not 2 <= len(names) <= MAX_CLASSES:
        return False
    cases, numbered = defaultdict(set), 0
    for parts, locator in zip(folders, locators, strict=True):
        case = parts[1] if len(parts) > 1 else locator.rpartition("/")[2].partition(".")[0]
        cases[parts[0]].add(case)
        numbered += bool(re.search(r"\d", re.sub(r"(?i)t[12]", "", case)))
    return min(map(len, cases.values())) > 1 and numbered > 0.8 * len(locators)


def _are_numbered(names: Collection[str]) -> bool:
    """Whether the names differ in a number only, as BraTS_001 and BraTS_002 do."""
    return len(names) > 1 and len({re.sub(r"\d+", "", name) for name in names}) == 1 and all(re.search(r"\d", name) for name in names)


def _are_parts(names: Collection[str]) -> bool:
    """Whether folders with these names are parts, sequences or sides, and neither classes nor patients."""
    return _matches_all(_PART, names) or _matches_all(_SIDE, names) or _matches_all(_STUDY, names)


def format_counts(names: Iterable[str | None]) -> str:
    """The first 20 names with their numbers, and how many more there are.

    >>> format_counts(["b", "a", "b"])
    'a 1, b 2'
    """
    counted = Counter(map(str, names))
    more = f" and {len(counted) - 20} more" if len(counted) > 20 else ""
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())[:20]) + more


def _enter(locators: Sequence[str], refuse_outside: bool) -> tuple[list[list[str]], list[str | None], list[str]]:
    """The folders of each file without those that hold all files and without those of the splits; the splits; notes."""
    folders = [locator.split("/")[:-1] for locator in locators]
    splits: list[str | None] = [None] * len(locators)
    notes, entered = [], 0
    while folders and all(parts for parts in folders) and len({parts[0] for parts in folders}) == 1:
        folders, entered = [parts[1:] for parts in folders], entered + 1
    deeper = any(folders)
    if entered and deeper:
        notes.append(
            "the only sub-folder is entered" if entered == 1 else f"{entered} folders, each the only one in the other, are entered"
        )
    for level, names in _levels(folders):
        named = [name for name in names if parse_split(name)]
        outside = len(names) - len(named)
        if not named or (outside and "train" not in map(parse_split, named)) or (outside and (level or not refuse_outside)):
            continue
        if outside:
            raise UserError(
                f"{len(named)} folders are splits (train, val or test), but there are also images "
                f"{'outside any folder' if names - set(named) == {''} else 'beside them'}. "
                "Move them into one of the splits, or out of the data folder."
            )
        splits = [parse_split(parts[level]) for parts in folders]
        folders = [parts[:level] + parts[level + 1 :] for parts in folders]
        notes.append("splits from the folders: " + format_counts(splits))
        break
    return folders, splits, notes


def _levels(folders: Sequence[Sequence[str]]) -> list[tuple[int, set[str]]]:
    """(level, the names of the folders there); "" among them where some files lie above this level."""
    depth = max(map(len, folders), default=0)
    return [(level, {parts[level] if level < len(parts) else "" for parts in folders}) for level in range(depth)]


def _matches_all(pattern: re.Pattern[str], names: Collection[str]) -> bool:
    known = [name for name in names if name]
    return bool(known) and all(map(pattern.fullmatch, known))


def _named_like_patients(names: Collection[str]) -> bool:
    """Whether the names are those of patients: three or more, like patient_012, like a person's name, or all with a long number."""
    known = [name for name in names if name]
    with_number = len(known) > 2 and all(map(_NUMBER_OF_PATIENT.search, known))
    return are_patients(known, _COUNT_SAYS_NOTHING) or _have_short_names_of_patients(known) or with_number


def _have_short_names_of_patients(names: Collection[str]) -> bool:
    return len(names) > 2 and all(map(_SHORT_NAME_OF_PATIENT.fullmatch, names))


def _class_level(levels: Sequence[tuple[int, set[str]]], folders: Sequence[Sequence[str]], patients: Sequence[str | None]) -> int | None:
    """The level below the patients whose folders are classes: a few names, each of several patients."""
    for level, names in levels:
        if "" in names or len(names) > MAX_CLASSES or _matches_all(_SIDE, names) or _named_like_patients(names):
            continue
        patients_in = defaultdict(set)
        for parts, patient in zip(folders, patients, strict=True):
            patients_in[parts[level]].add(patient)
        if min(map(len, patients_in.values())) > 1:
            return level
    return None


def _classes(folders: Sequence[Sequence[str]], level: int, where: str = "") -> tuple[list[str | None], list[str]]:
    """The class of each file by its folder at this level, None in a folder called unlabelled or the like; and notes for a person. Of more
    than MAX_CLASSES classes, which may be patients after all, the names are not told."""
    names = [parts[level] if len(parts) > level else "" for parts in folders]
    classes = [None if not name or _NO_CLASS.fullmatch(name) else name for name in names]
    number = len({name for name in classes if name})
    told = format_counts(name for name in classes if name) if number <= MAX_CLASSES else str(number)
    notes = [f"classes from the folders{where}: {told}"]
    if without := classes.count(None):
        notes.append(f"{without} images have no label: their folder is called unlabelled or the like")
    return classes, notes
