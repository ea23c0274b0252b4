"""A drawn phantom: slices through chests that never were, as a scanner of 12 bits would store them.

Half of the patients have a nodule in their lungs; each patient has several slices, which look alike. It is there to
try out the way of medical pictures (docs/medical.md) without anybody's pictures:

    python -m core.datasets.phantom scans
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from core.catalog import UserError, optional
from core.ground import files

CLASSES = ("clear", "nodule")
OFFSET = 1024  # of what is stored over Hounsfield units
_AIR, _LUNG, _BODY, _BONE, _NODULE = -1000.0, -820.0, 40.0, 600.0, 90.0


def draw(patients: int = 60, slices: int = 3, size: int = 64, seed: int = 0) -> np.ndarray:
    """Draws the slices.

    Args:
        patients: How many; every second one has a nodule.
        slices: Of each.
        size: Height and width in pixels.
        seed: Another one draws other patients.

    Returns:
        Stored values, uint16 (patients, slices, size, size), 0 … 4095: Hounsfield units and :data:`OFFSET`.
    """
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    stored = np.empty((patients, slices, size, size), np.uint16)
    for patient in range(patients):
        rng = np.random.default_rng((seed, patient))
        wide, high = rng.uniform(0.75, 0.95), rng.uniform(0.55, 0.75)
        gap, lung = rng.uniform(0.34, 0.42), rng.uniform(0.2, 0.27)
        side, at = rng.choice((-1, 1)), rng.uniform(-0.25, 0.25, 2)
        radius, tissue = rng.uniform(0.07, 0.12), rng.normal(0, 25)
        for number in range(slices):
            depth = (number - (slices - 1) / 2) / slices  # -½ … ½
            units = np.full((size, size), _AIR)
            units[(x / wide) ** 2 + (y / high) ** 2 < 1] = _BODY + tissue
            for lobe in (-1, 1):
                inside = ((x - lobe * gap) / (lung * (1 - depth**2))) ** 2 + (
                    y / (high * 0.62)
                ) ** 2
                units[inside < 1] = _LUNG + tissue
            units[x**2 + ((y - 0.75 * high) / 0.8) ** 2 < 0.01] = _BONE
            if patient % 2:
                middle = (side * gap + at[0] * lung, at[1] * high)
                small = radius * np.sqrt(1 - depth**2)
                units[(x - middle[0]) ** 2 + (y - middle[1]) ** 2 < small**2] = _NODULE
            units += rng.normal(0, 30, units.shape)
            stored[patient, number] = np.clip(units + OFFSET, 0, 4095).round()
    return stored


def write(folder: Path, patients: int = 60, slices: int = 3, size: int = 64, seed: int = 0) -> int:
    """Writes the slices as DICOM: a folder per class, a file for each slice, names and numbers of invented patients.

    Returns:
        How many files there are.

    Raises:
        UserError: If pydicom is not installed, or the folder exists.
    """
    pydicom = optional("pydicom", "Writing DICOM")
    stored = draw(patients, slices, size, seed)
    try:
        with files.full_disk_told(), files.new_folder(folder) as new:
            for name in CLASSES:
                (new / name).mkdir()
            for patient, number in np.ndindex(patients, slices):
                name = CLASSES[patient % 2]
                file = new / name / f"slice-{patient:03}-{number}.dcm"
                header = _header(pydicom, patient, number, seed)
                header.Rows = header.Columns = size
                header.PixelSpacing = [round(360 / size, 3)] * 2
                header.PixelData = stored[patient, number].astype("<u2").tobytes()
                header.save_as(file, enforce_file_format=True)
    except FileExistsError:
        raise UserError(f"{str(folder)!r} is there already. Choose another folder.") from None
    return patients * slices


def _header(pydicom: Any, patient: int, number: int, seed: int) -> Any:
    """Says what a scanner would say of a slice."""
    uid, header = pydicom.uid, pydicom.Dataset()

    def unique(*parts: object) -> str:
        return str(uid.generate_uid(entropy_srcs=[f"phantom-{seed}", *map(str, parts)]))

    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.file_meta = meta
    header.SOPClassUID = meta.MediaStorageSOPClassUID = uid.CTImageStorage
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = unique("slice", patient, number)
    header.StudyInstanceUID, header.SeriesInstanceUID = (
        unique("study", patient),
        unique("series", patient),
    )
    header.PatientName, header.PatientID = f"Phantom^Number {patient}", f"PHANTOM-{patient:05}"
    header.PatientBirthDate, header.StudyDate = "19000101", "20260101"
    header.Modality, header.BodyPartExamined, header.Manufacturer = "CT", "CHEST", "Drawn"
    header.InstanceNumber, header.SliceThickness = number + 1, 5.0
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = 0
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 1, -OFFSET, "HU"
    header.WindowCenter, header.WindowWidth = -600, 1500
    return header


def main() -> None:
    """Writes the phantom into the folder that the command names.

    Raises:
        SystemExit: With a sentence, if it cannot be written there.
    """
    try:
        if len(sys.argv) != 2:
            raise UserError("Write: python -m core.datasets.phantom FOLDER, which is made anew.")
        print(f"{write(Path(sys.argv[1]).absolute())} files in {sys.argv[1]}")
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
