"""Data sets of a few drawn images, in the layouts that their authors document."""

import csv
import gzip
import io
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from synthfair_hf.domains.chest_xray.chexpert import LABELS

SIDE = 64


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)


def draw(path: Path, seed: int, bits: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = pixels(seed)
    Image.fromarray(drawn if bits == 8 else drawn.astype(np.uint16) * 257).save(path)


def draw_dicom(path: Path, seed: int, **elements: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{seed + 1}"
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = (pixels(seed).astype(np.uint16) * 16).tobytes()
    with warnings.catch_warnings():
        # of ages without Y, which are what is to be read
        warnings.simplefilter("ignore")
        for name, value in elements.items():
            setattr(dataset, name, value)
        dcmwrite(path, dataset, enforce_file_format=True)


def draw_nifti(path: Path, seed: int) -> None:
    """A volume whose axes are stored from left, from the front and from above, and whose slices are coarse."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(seed).integers(0, 900, (SIDE, SIDE, 5), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(drawn, np.diag([-1.0, -1.0, -4.0, 1.0])), path)


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A table, gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def chexpert_labels(*present: str, uncertain: Iterable[str] = (), end: str = ".0") -> dict[str, str]:
    states = {**dict.fromkeys(present, f"1{end}"), **dict.fromkeys(uncertain, f"-1{end}")}
    return {name: states.get(name, "") for name in LABELS}


def mimic_cxr(root: Path) -> None:
    """Six patients, a frontal and a lateral image of each."""
    metadata, splits, labels, patients, admissions = [], [], [], [], []
    for n in range(6):
        subject, study = 10000032 + n, 50414267 + n
        for k, view in enumerate((("PA", "AP")[n % 2], "LATERAL")):
            name = f"{n:04}{k}f21-{n:04}-{n:04}-{n:04}-{n:08}"
            draw(root / f"files/p{str(subject)[:2]}/p{subject}/s{study}/{name}.jpg", 2 * n + k)
            row = {"dicom_id": name, "subject_id": subject, "study_id": study, "ViewPosition": view, "Rows": 3056}
            metadata.append({**row, "Columns": 2544, "StudyDate": f"21{80 + n}0506", "StudyTime": "213014.531"})
            part = ("train", "train", "train", "train", "validate", "test")[n]
            splits.append({"dicom_id": name, "study_id": study, "subject_id": subject, "split": part})
        found = (("No Finding", "Support Devices"), ("Pneumonia", "Edema"), ("Fracture",))[n % 3]
        unsure = ("Pneumonia",) if n == 5 else ()
        labels.append({"subject_id": subject, "study_id": study, **chexpert_labels(*found, uncertain=unsure)})
        # 52, 91: beyond 89, and one who joins no patient
        if n != 4:
            aged = {"anchor_age": (52, 91, 88)[n % 3], "anchor_year": 2178, "anchor_year_group": "2014 - 2016"}
            patients.append({"subject_id": subject, "gender": "FM"[n % 2], **aged, "dod": ""})
        for race in (("WHITE - RUSSIAN", "UNKNOWN"), ("BLACK/AFRICAN AMERICAN",), ("ASIAN - CHINESE",), ("OTHER",))[
            n % 4
        ]:
            admissions.append({"subject_id": subject, "hadm_id": 2 * n, "insurance": "Other", "race": race})
    write(root / "mimic-cxr-2.0.0-metadata.csv.gz", metadata)
    write(root / "mimic-cxr-2.0.0-split.csv.gz", splits)
    write(root / "mimic-cxr-2.0.0-chexpert.csv.gz", labels)
    write(root / "hosp" / "patients.csv.gz", patients)
    write(root / "hosp" / "admissions.csv.gz", admissions)


def chexpert(root: Path, patients: int = 8) -> None:
    """CheXpert-v1.0-small with the table of CheXpert Plus; one patient in valid.csv."""
    tables: dict[str, list[dict[str, object]]] = {"train": [], "valid": []}
    plus = []
    for n in range(patients):
        part = "valid" if n == 7 else "train"
        for k, view in enumerate(("frontal", "lateral")):
            file = f"{part}/patient{n + 1:05}/study1/view{k + 1}_{view}.jpg"
            draw(root / file, 2 * n + k)
            # of the third nothing is certain
            found = () if n == 2 else (("No Finding", "Support Devices"), ("Pneumonia",))[n % 2]
            tables[part].append(
                {
                    **{"Path": f"CheXpert-v1.0-small/{file}", "Sex": ("Female", "Male")[n // 2 % 2]},
                    **{"Age": (0, 68, 90, 45)[n % 4], "Frontal/Lateral": view.title()},
                    **{"AP/PA": "" if view == "lateral" else ("AP", "PA")[n % 2]},
                    **chexpert_labels(*found, uncertain=("Pneumonia",) if n == 2 else ()),
                }
            )
            race = ("White", "Black or African American", "Asian", "Unknown")[n % 4]
            plus.append(
                {"path_to_image": file, "deid_patient_id": f"patient{n + 1:05}", "report": "a\nb", "race": race}
            )
    for part, rows in tables.items():
        write(root / f"{part}.csv", rows)
    write(root / "df_chexpert_plus_240401.csv", plus)


def chexpert_plus(root: Path) -> None:
    """Of four patients two have PNG, one has DICOM, one both; each has a lateral image; the last is not labelled."""
    rows, labels = [], []
    for n in range(4):
        for k, view in enumerate(("frontal", "lateral")):
            image = f"train/patient{n + 1:05}/study1/view{k + 1}_{view}"
            if n != 2:
                draw(root / "PNG" / f"{image}.png", 2 * n + k)
            if n > 1:
                draw_dicom(root / "DICOM" / f"{image}.dcm", 2 * n + k)
            row = {"path_to_image": f"{image}.jpg", "path_to_dcm": f"{image}.dcm", "frontal_lateral": view.title()}
            row |= {
                "ap_pa": "" if k else ("AP", "PA")[n % 2],
                "deid_patient_id": f"patient{n + 1:05}",
                "split": "train",
            }
            row |= {"age": (0, 68, 90, 45)[n], "sex": ("Female", "Male")[n // 2], "report": "a,\nb", "recent_bmi": 23.5}
            rows.append({**row, "race": ("White", "Black", "Asian", "Unknown")[n], "ethnicity": "Unknown"})
            found = {"No Finding": 1.0} if n == 0 else {"Pneumonia": 1.0, "Edema": -1.0, "Fracture": 0.0}
            if n < 3:
                labels.append({"path_to_image": f"{image}.jpg", **{name: found.get(name) for name in LABELS}})
    write(root / "df_chexpert_plus_240401.csv", rows)
    (root / "chexbert_labels").mkdir()
    lines = "".join(json.dumps(one) + "\n" for one in labels)
    (root / "chexbert_labels" / "impression_fixed.json").write_text(lines)


def nih_chestxray14(root: Path) -> None:
    rows = []
    for n in range(24):
        name = f"{n // 2 + 1:08}_{n % 2:03}.png"
        draw(root / f"images_{n // 12 + 1:03}" / "images" / name, n)
        found = ("No Finding", "Infiltration|Pneumonia", "Cardiomegaly", "No Finding")[n % 4]
        row = {"Image Index": name, "Finding Labels": found, "Follow-up #": n % 2, "Patient ID": n // 2 + 1}
        row |= {"Patient Age": "411Y" if n == 2 else ("060Y", "58", "014M")[n % 3], "Patient Gender": "MF"[n // 2 % 2]}
        rows.append({**row, "View Position": ("PA", "AP")[n % 2], "OriginalImage[Width": 2682, "Height]": 2749, "": ""})
    rows.append({**rows[0], "Image Index": "00000099_000.png"})
    write(root / "Data_Entry_2017.csv", rows)
    (root / "test_list.txt").write_text("00000004_000.png\n00000004_001.png\n")


def padchest(root: Path) -> None:
    rows = []
    for n in range(8):
        name = f"2168401113669640129{n:04}.png"
        draw(root / str(n // 4) / name, n, bits=16)
        found = ("['normal']", "['pneumonia', ' pleural effusion']", "['COPD signs']", "[]")[n % 4]
        row = {"": n, "ImageID": name, "ImageDir": n // 4, "StudyDate_DICOM": 20140915 + n, "StudyID": n}
        row |= {
            "PatientID": 839860488694292331637988235681460987 + n,
            "PatientBirth": ("1930.0", "1988", "", "1960.0")[n % 4],
        }
        row |= {"PatientSex_DICOM": "MFOF"[n % 4], "ViewPosition_DICOM": "POSTEROANTERIOR"}
        projection = ("PA", "AP_horizontal", "AP", "L")[n % 4]
        rows.append({**row, "Projection": projection, "MethodProjection": "Manual", "Labels": found})
    rows[-4]["Labels"] = "['exclude', 'suboptimal study']"
    rows.append({**rows[0], "ImageID": "1.png", "PatientID": "3.0", "Projection": "PA", "Labels": "['normal']"})
    draw(root / "1.png", 9, bits=16)
    write(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", rows)


def vindr_cxr(root: Path) -> None:
    """Three radiologists for each image of train, who agree on the first; a consensus for each of test."""
    train, test = [], []
    for n in range(4):
        name = f"{n:032x}"
        draw_dicom(root / "train" / f"{name}.dicom", n, PatientSex="MF"[n % 2], PatientAge=("060Y", "000Y")[n // 2])
        votes = ((0, 0, 1), (1, 1, 0))[n % 2]
        for radiologist, vote in enumerate(votes):
            labels = {"Cardiomegaly": 0, "Pneumonia": vote, "Other diseases": 0, "No finding": 1 - vote}
            train.append({"image_id": name, "rad_id": f"R{radiologist + 8}", **labels})
    draw_dicom(root / "test" / f"{9:032x}.dicom", 9)
    test.append({"image_id": f"{9:032x}", "Cardiomegaly": 1, "Pneumonia": 0, "Other disease": 0, "No finding": 0})
    write(root / "annotations" / "image_labels_train.csv", train)
    write(root / "annotations" / "image_labels_test.csv", test)


def brax(root: Path) -> None:
    rows = []
    for n in range(6):
        place = f"id_{n // 2:08}-da/Study_{n}/Series_{n}/image-{n}"
        draw(root / "images" / f"{place}.png", n)
        row = {"DicomPath": f"Anonymized_DICOMs/{place}.dcm", "PngPath": f"images/{place}.png"}
        row |= {
            "PatientID": f"id_{n // 2:08}-da",
            "PatientSex": "MF"[n // 2 % 2],
            "PatientAge": ("60", "85 or more")[n % 2],
        }
        row |= chexpert_labels(("No Finding", "Pneumonia")[n % 2], end="")
        rows.append({**row, "ViewPosition": ("PA", "AP", "PA", "AP", "L", "RL")[n], "Rows": 1024})
    write(root / "master_spreadsheet_update.csv", rows)


def rsna_pneumonia(root: Path) -> None:
    rows = []
    for n in range(6):
        name, found = f"{n:08x}-0000", ("Normal", "Lung Opacity", "No Lung Opacity / Not Normal")[n % 3]
        header = {"PatientSex": "MF"[n % 2], "PatientAge": str(50 + n), "ViewPosition": ("PA", "AP")[n % 2]}
        draw_dicom(root / "stage_2_train_images" / f"{name}.dcm", n, **header)
        # a row per box
        rows += [{"patientId": name, "class": found}] * (2 if n == 1 else 1)
    write(root / "stage_2_detailed_class_info.csv", rows)


DIAGNOSES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")


def ham10000(root: Path) -> None:
    rows = []
    for n in range(14):
        draw(root / f"HAM10000_images_part_{n % 2 + 1}" / f"ISIC_{n:07}.jpg", n)
        row = {"lesion_id": f"HAM_{n // 2:07}", "image_id": f"ISIC_{n:07}", "dx": DIAGNOSES[n // 2], "dx_type": "histo"}
        site = ("back", "ear", "hand", "upper extremity", "lower extremity")[n // 2 % 5]
        rows.append({**row, "age": 80.0, "sex": ("male", "female")[n // 2 % 2], "localization": site})
    write(root / "HAM10000_metadata", rows)


def isic(root: Path) -> None:
    """The challenge of 2019."""
    metadata, truth = [], []
    classes = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    for n in range(8):
        name = f"ISIC_{n:07}"
        draw(root / "ISIC_2019_Training_Input" / f"{name}.jpg", n)
        row = {"image": name, "age_approx": 55.0, "anatom_site_general": "anterior torso", "lesion_id": f"BCN_{n // 2}"}
        metadata.append({**row, "sex": ("male", "female")[n // 2 % 2]})
        truth.append({"image": name, **{one: f"{float(one == classes[n])}" for one in classes}})
    metadata[-1]["lesion_id"] = ""
    write(root / "ISIC_2019_Training_Metadata.csv", metadata)
    write(root / "ISIC_2019_Training_GroundTruth.csv", truth)


def isic_2020(root: Path) -> None:
    rows = []
    for n in range(4):
        draw(root / "jpeg" / "train" / f"ISIC_{n:07}.jpg", n)
        row = {"image_name": f"ISIC_{n:07}", "patient_id": f"IP_{n // 2}", "sex": ("male", "female")[n // 2]}
        row |= {"age_approx": 45.0, "anatom_site_general_challenge": "head/neck"}
        found = ("melanoma", "nevus", "seborrheic keratosis", "unknown")[n]
        rows.append({**row, "diagnosis": found, "benign_malignant": "benign", "target": int(n == 0)})
    write(root / "train.csv", rows)


def fitzpatrick17k(root: Path) -> None:
    rows = []
    for n in range(6):
        draw(root / "data" / "finalfitz17k" / f"{n:032x}.jpg", n)
        row = {"md5hash": f"{n:032x}", "fitzpatrick_scale": (1, 2, 3, 4, 5, -1)[n], "label": "lupus erythematosus"}
        part = ("benign", "malignant", "non-neoplastic")[n % 3]
        rows.append({**row, "nine_partition_label": "inflammatory", "three_partition_label": part, "qc": "", "url": ""})
    write(root / "fitzpatrick17k.csv", rows)


def oasis1(root: Path) -> None:
    """The discs of the data set itself: sessions with slices as GIF."""
    rows = []
    for n in range(6):
        session = f"OAS1_{n // 2 + 1:04}_MR{n % 2 + 1}"
        for plane in ("tra_90", "sag_95", "cor_110"):
            name = f"{session}_mpr_n4_anon_111_t88_gfc_{plane}.gif"
            draw(root / f"disc{n // 4 + 1}" / session / "PROCESSED" / "MPRAGE" / "T88_111" / name, n)
        row = {"ID": session, "M/F": "FM"[n // 2 % 2], "Hand": "R", "Age": 74 + n, "Educ": 2, "MMSE": 29}
        rows.append({**row, "CDR": ("0", "0.5", "")[n // 2], "eTIV": 1344, "nWBV": 0.743, "Delay": "N/A"})
    write(root / "oasis_cross-sectional.csv", rows)


def oasis1_slices(root: Path) -> None:
    rows = []
    for n in range(4):
        for plane in ("axial", "coronal", "sagittal"):
            file = f"images/OAS1_{n + 1:04}_MR1_{plane[0]}.jpg"
            draw(root / file, n)
            row = {"file_name": file, "subject_id": f"OAS1_{n + 1:04}_MR1", "plane": plane, "age": 70 + n}
            rows.append({**row, "sex": ("female", "male")[n % 2], "cdr": (0, 0.5)[n // 2]})
    write(root / "metadata.csv", rows)


def ixi(root: Path) -> None:
    """Three hospitals, two sequences; a subject with two rows, one without any, and volumes that are not read."""
    rows = []
    for n, (site, age, sex) in enumerate((("Guys", "35.8", 2), ("HH", "0", 1), ("IOP", "0", 0), ("HH", "60", 1))):
        for sequence in ("T1", "PD"):
            draw_nifti(root / f"IXI-{sequence}" / f"IXI{n + 2:03}-{site}-{828 + n:04}-{sequence}.nii.gz", n)
        if n < 3:
            row = {"IXI_ID": n + 2, "SEX_ID (1=m, 2=f)": sex, "HEIGHT": 164, "WEIGHT": 58, "ETHNIC_ID": 1}
            rows.append({**row, "DATE_AVAILABLE": 1, "STUDY_DATE": "2005-11-25", "AGE": age})
    rows.append({**rows[1], "SEX_ID (1=m, 2=f)": 0, "AGE": 38.78})
    for sequence in ("MRA", "DTI-00"):
        draw_nifti(root / f"IXI002-Guys-0828-{sequence}.nii.gz", 9)
    write(root / "IXI.csv", rows)


def _adni_volumes(root: Path) -> list[tuple[str, str]]:
    """Subject and image of each volume, the last of them of nobody."""
    found = []
    for n in range(6):
        subject, image = f"{n // 2:03}_S_{295 + n // 2:04}", f"I{13722 + n}"
        folder = root / "ADNI" / subject / "MP-RAGE" / f"20{6 + n:02}-04-18_08_20_30.0" / image
        draw_nifti(folder / f"ADNI_{subject}_MR_MP-RAGE__br_raw_20060418193713091_1_S13408_{image}.nii", n)
        found.append((subject, image))
    return found


def adni(root: Path) -> None:
    """A row per visit: a subject's first image by its number, the second by its day; the last visit is too late."""
    rows = []
    for n, (subject, image) in enumerate(_adni_volumes(root)):
        day = "2011-12-01" if n == 5 else f"20{6 + n:02}-04-30"
        row = {"RID": n, "PTID": subject, "VISCODE": ("bl", "m12")[n % 2], "EXAMDATE": day, "DX_bl": "CN", "AGE": 74.3}
        row |= {"PTGENDER": ("Male", "Female")[n // 2 % 2], "PTRACCAT": "White", "Years_bl": (0, 1.01232)[n % 2]}
        row |= {"FLDSTRENG": ("1.5 Tesla MRI", "3 Tesla MRI")[n % 2], "IMAGEUID": "" if n % 2 else f"{image[1:]}.0"}
        rows.append({**row, "DX": ("CN", "MCI", "Dementia")[n // 2]})
    write(root / "ADNIMERGE_18Feb2025.csv", rows)


def adni_collection(root: Path) -> None:
    """A row per image, as the archive writes beside a download."""
    rows = []
    for n, (subject, image) in enumerate(_adni_volumes(root)[:5]):
        row = {
            "Image Data ID": image,
            "Subject": subject,
            "Group": ("CN", "MCI", "AD")[n // 2],
            "Sex": "MF"[n // 2 % 2],
        }
        rows.append(
            {**row, "Age": 74 + n, "Visit": "sc", "Modality": "MRI", "Acq Date": "4/18/2006", "Format": "NiFTI"}
        )
    write(root / "ADNI1_Annual_2_Yr_3_01_2024.csv", rows)


def utkface(root: Path) -> None:
    for n in range(10):
        draw(root / f"part{n % 2}" / f"{20 + n}_{n % 2}_{n % 5}_2017010915353{n}.jpg.chip.jpg", n)
    draw(root / "39_1_20170116174525125.jpg.chip.jpg", 99)


MINIATURES: dict[str, Callable[[Path], None]] = {
    one.__name__: one
    for one in (
        *(mimic_cxr, chexpert, chexpert_plus, nih_chestxray14, padchest, vindr_cxr, brax, rsna_pneumonia),
        *(ham10000, isic, fitzpatrick17k, oasis1, ixi, adni, utkface),
    )
}
"""By the name of the data set, what writes it into a folder."""
