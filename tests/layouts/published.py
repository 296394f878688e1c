"""Published data sets in small, with the folders, names and tables as they are delivered: a function a data set, which writes it into a
folder and returns what is right to understand of it. The pictures are noise."""

from pathlib import Path

from layouts.understood import Understood, dicom, mask, mask_volume, picture, table, volume

FINDINGS = ("No Finding", "Cardiomegaly", "Edema")


def nih(root: Path) -> Understood:
    """NIH ChestX-ray14: Data_Entry_2017.csv with findings between bars, images in images_001/images, the official lists."""
    lines = [
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
        "OriginalImagePixelSpacing[x,y],"
    ]
    names = [f"{n // 3 + 1:08d}_{n % 3:03d}.png" for n in range(36)]
    for n, name in enumerate(names):
        picture(root / f"images_{n % 2 + 1:03d}/images/{name}", n)
        finding = ("No Finding", "Effusion|Mass", "Mass")[n % 3]
        lines.append(f"{name},{finding},{n % 3},{n // 3 + 1},058Y,M,PA,2682,2749,0.143,0.143,")
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(names[:27]))
    (root / "test_list.txt").write_text("\n".join(names[27:]))
    labels = {"Effusion": {"0": 24, "1": 12}, "Mass": {"0": 12, "1": 24}}
    return Understood(36, labels, [3] * 12, {"test": 9, "train": 27})


def chexpert_small(root: Path) -> Understood:
    """CheXpert-v1.0-small: train.csv and valid.csv, whose paths begin with the name of the data set."""
    return _chexpert(root, lambda n: "train" if n < 24 else "valid", "CheXpert-v1.0-small")


def chexpert_aimi(root: Path) -> Understood:
    """CheXpert as Stanford AIMI delivers it: the tables say CheXpert-v1.0/train/..., the folders are called batch 2 (train 1)."""
    return _chexpert(root, lambda n: f"CheXpert-v1.0 batch {2 + n % 3} (train {1 + n % 3})" if n < 24 else "valid", "CheXpert-v1.0")


def _chexpert(root: Path, folder, prefix: str) -> Understood:
    rows = {"train": [], "valid": []}
    for n in range(30):
        patient, split = f"patient{n // 2:05d}", "train" if n < 24 else "valid"
        picture(root / folder(n) / patient / f"study{n % 2 + 1}/view1_frontal.jpg", n)
        marks = (["1.0", "", ""], ["", "1.0", "-1.0"], ["", "0.0", "1.0"])[n % 3]
        path = f"{prefix}/{split}/{patient}/study{n % 2 + 1}/view1_frontal.jpg"
        rows[split].append([path, "Male", 60, "Frontal", "AP", *marks])
    for split, listed in rows.items():
        table(root / f"{split}.csv", ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS], listed)
    labels = {"No Finding": {"0": 20, "1": 10}, "Cardiomegaly": {"0": 20, "1": 10}, "Edema": {"0": 10, "1": 10}}
    return Understood(30, dict(sorted(labels.items())), [2] * 15, {"train": 24, "val": 6})


def mimic_cxr_jpg(root: Path) -> Understood:
    """MIMIC-CXR-JPG: packed tables of labels by study, splits by image and views by image; images in files/p10/p10000032/s50414267."""
    labels, splits, views = [], [], []
    for n in range(20):
        subject, side = 10000032 + 7 * (n // 2), ("train", "train", "train", "validate", "test")[n // 2 % 5]
        study, marks = 50414267 + n, (["1.0", "", ""], ["", "1.0", "-1.0"])[n % 2]
        labels.append([subject, study, *marks])
        for view in ("PA", "LATERAL"):
            name = f"{n:08x}-{len(view):08x}-dffda847"
            picture(root / f"files/p10/p{subject}/s{study}/{name}.jpg", n)
            splits.append([name, study, subject, side])
            views.append([name, subject, study, view])
    table(root / "mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", *FINDINGS], labels)
    table(root / "mimic-cxr-2.0.0-split.csv.gz", ["dicom_id", "study_id", "subject_id", "split"], splits)
    table(root / "mimic-cxr-2.0.0-metadata.csv.gz", ["dicom_id", "subject_id", "study_id", "ViewPosition"], views)
    found = {"Cardiomegaly": {"0": 20, "1": 20}, "Edema": {"0": 20}, "No Finding": {"0": 20, "1": 20}}
    return Understood(40, found, [4] * 10, {"test": 8, "train": 24, "val": 8})


def padchest(root: Path) -> Understood:
    """PadChest: a table whose labels are Python lists in text, images in folders called 0, 1, 2."""
    rows = []
    for n in range(30):
        names = (["normal"], ["cardiomegaly", "pleural effusion"], ["pleural effusion"], ["cardiomegaly"], [])[n % 5]
        name = f"{20536686640136348236148679891455886468 + n}_{n:04d}.png"
        picture(root / f"{n % 3}/{name}", n)
        rows.append([n, name, n % 3, 20100101, 3000000 + n, 90000 + n // 2, 1950, "F", "PA", str(names), "[]"])
    header = ["", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection"]
    table(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", [*header, "Labels", "Localizations"], rows)
    return Understood(30, {"cardiomegaly": {"0": 18, "1": 12}, "pleural effusion": {"0": 18, "1": 12}}, [2] * 15)


def vindr_cxr(root: Path) -> Understood:
    """VinDr-CXR: train.csv with a row for each finding of each of three readers, IDs without suffix, files called ID.dicom."""
    rows = []
    for n in range(12):
        name = f"{n * 7919:032x}"
        dicom(root / f"train/{name}.dicom", "", f"1.2.{n}", n)
        for reader in ("R8", "R9", "R10"):
            names = ["No finding"] if n % 2 else ["Cardiomegaly", "Pleural effusion"][: 1 + (reader != "R9")]
            rows += [[name, found, 14 if n % 2 else 3, reader, *([""] * 4 if n % 2 else [1, 2, 30, 40])] for found in names]
    table(root / "train.csv", ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"], rows)
    return Understood(12, {"Cardiomegaly": {"0": 6, "1": 6}, "Pleural effusion": {"0": 6, "1": 6}}, [1] * 12)


def rsna_pneumonia(root: Path) -> Understood:
    """RSNA Pneumonia Detection: a row a box, so several rows for some images; the ID is patient and name of the file."""
    rows = []
    for n in range(12):
        name = f"0004cfab-14fd-4e49-80ba-{n:012x}"
        dicom(root / f"stage_2_train_images/{name}.dcm", name, f"1.2.{n}", n)
        boxes = [[5, 10, 15, 20], [40, 12, 15, 22]][: 1 + n % 2] if n % 3 == 0 else [["", "", "", ""]]
        rows += [[name, *box, int(n % 3 == 0)] for box in boxes]
    table(root / "stage_2_train_labels.csv", ["patientId", "x", "y", "width", "height", "Target"], rows)
    return Understood(12, {"label": {"0": 8, "1": 4}}, [1] * 12)


def ham10000(root: Path) -> Understood:
    """HAM10000: HAM10000_metadata.csv with IDs without suffix, lesions with several images, images in two folders."""
    rows = []
    for n in range(30):
        picture(root / f"HAM10000_images_part_{1 + n % 2}/ISIC_{24306 + n:07d}.jpg", n)
        rows.append(
            [f"HAM_{n // 2:07d}", f"ISIC_{24306 + n:07d}", ("nv", "mel", "bkl")[n // 2 % 3], "histo", f"{40 + n}.0", "male", "back"]
        )
    table(root / "HAM10000_metadata.csv", ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"], rows)
    return Understood(30, {"label": {"bkl": 10, "mel": 10, "nv": 10}}, [2] * 15)


def isic2019(root: Path) -> Understood:
    """ISIC 2019: a column for each class, of which each row marks one with 1.0; lesions and ages in a second table."""
    classes, rows, more = ["MEL", "NV", "BCC", "UNK"], [], []
    for n in range(30):
        picture(root / f"ISIC_2019_Training_Input/ISIC_{n:07d}.jpg", n)
        rows.append([f"ISIC_{n:07d}", *(f"{float(n % 3 == k):.1f}" for k in range(4))])
        more.append([f"ISIC_{n:07d}", 55, "anterior torso", f"BCN_{n // 2:07d}", "female"])
    table(root / "ISIC_2019_Training_GroundTruth.csv", ["image", *classes], rows)
    table(root / "ISIC_2019_Training_Metadata.csv", ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"], more)
    return Understood(30, {"label": {"BCC": 10, "MEL": 10, "NV": 10}}, [2] * 15)


def aptos(root: Path) -> Understood:
    """APTOS 2019: train.csv with id_code and diagnosis from 0 to 4; test images without labels, and the form of the contest's answer."""
    rows, forms = [], []
    for n in range(30):
        picture(root / f"train_images/{n * 104729:012x}.png", n)
        rows.append([f"{n * 104729:012x}", (0, 0, 0, 2, 2, 1, 3, 4)[n % 8]])
    for n in range(6):
        picture(root / f"test_images/{n * 7919 + 1:012x}.png", n)
        forms.append([f"{n * 7919 + 1:012x}", 0])
    table(root / "train.csv", ["id_code", "diagnosis"], rows)
    table(root / "test.csv", ["id_code"], [row[:1] for row in forms])
    table(root / "sample_submission.csv", ["id_code", "diagnosis"], forms)
    return Understood(36, {"label": {"0": 12, "1": 4, "2": 8, "3": 3, "4": 3}})


def odir(root: Path) -> Understood:
    """ODIR-5K: full_df.csv, a row an eye, with the files of both eyes in every row and the patient in the column ID."""
    rows = []
    for n in range(15):
        for side in ("left", "right"):
            name, code = f"{n}_{side}.jpg", "NDG"[(n + (side == "left")) % 3]
            picture(root / f"preprocessed_images/{name}", n)
            codes = [int(code == each) for each in "NDGCAHMO"]
            paths = [f"../input/ODIR-5K/Training Images/{name}", f"['{code}']", str(codes), name]
            rows.append([n, 50, "Female", f"{n}_left.jpg", f"{n}_right.jpg", "x", "x", *codes, *paths])
    header = ["ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords"]
    table(root / "full_df.csv", [*header, *"NDGCAHMO", "filepath", "labels", "target", "filename"], rows)
    return Understood(30, {"label": {"D": 10, "G": 10, "N": 10}}, [2] * 15)


def busi(root: Path) -> Understood:
    """BUSI: class folders benign, malignant and normal, with masks beside the images; a few images have two."""
    for name in ("benign", "malignant", "normal"):
        for n in range(1, 9):
            picture(root / f"{name}/{name} ({n}).png", n)
            mask(root / f"{name}/{name} ({n})_mask.png", n)
    mask(root / "benign/benign (4)_mask_1.png", 7)
    return Understood(24, {"label": {"benign": 8, "malignant": 8, "normal": 8}})


def covid_radiography(root: Path) -> Understood:
    """COVID-19 Radiography Database: CLASS/images, and CLASS/masks with the same names."""
    for name in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"):
        for n in range(1, 7):
            picture(root / f"{name}/images/{name}-{n}.png", n)
            mask(root / f"{name}/masks/{name}-{n}.png", n)
    return Understood(24, {"label": {"COVID": 6, "Lung_Opacity": 6, "Normal": 6, "Viral Pneumonia": 6}})


def kermany(root: Path) -> Understood:
    """Kermany's chest X-rays, unpacked one level too deep: archive/chest_xray/train/NORMAL."""
    for split, count in (("train", 12), ("val", 4), ("test", 6)):
        for name in ("NORMAL", "PNEUMONIA"):
            for n in range(count):
                picture(root / f"chest_xray/{split}/{name}/{split}{n}.jpeg", n)
    return Understood(44, {"label": {"NORMAL": 22, "PNEUMONIA": 22}}, (), {"test": 12, "train": 24, "val": 8})


def brats(root: Path) -> Understood:
    """BraTS: a folder of four sequences for each patient, survival in days by patient, and masks of the tumours."""
    rows = []
    for n in range(1, 9):
        name = f"BraTS20_Training_{n:03d}"
        for sequence in ("flair", "t1", "t1ce", "t2"):
            volume(root / f"{name}/{name}_{sequence}.nii", n)
        mask_volume(root / f"{name}/{name}_seg.nii", n)
        rows.append([name, 60 + n / 3, 100 + 90 * n, "GTR" if n % 2 else "STR"])
    table(root / "survival_info.csv", ["Brats20ID", "Age", "Survival_days", "Extent_of_Resection"], rows)
    return Understood(64, {"Extent_of_Resection": {"GTR": 32, "STR": 32}}, [8] * 8)
