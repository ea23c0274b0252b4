"""DICOM: pixels of every packing, windows wherever they stand, and nothing of a person that travels with them."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import datasets
from core.__main__ import main
from core.catalog import UserError
from core.datasets import Dataset, dicom, dicom_pixels, phantom
from core.datasets.dicom import Short, Window
from core.datasets.formats.dicom import unnamed
from core.datasets.pictures import Refused
from tests.core.test_imports import put

pydicom = pytest.importorskip("pydicom")

uids = pydicom.uid
PERSON = "Doe^Jane"


def file_of(stored: np.ndarray, syntax: str = uids.ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """A file that pydicom writes; stored is (H, W), (frames, H, W) or (H, W, 3), of 8 or 16 bits."""
    colour = stored.shape[-1] == 3
    rows, columns = stored.shape[-3:-1] if colour else stored.shape[-2:]
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = uids.CTImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = uids.generate_uid()
    header.Rows, header.Columns, header.SamplesPerPixel = rows, columns, 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        header.PlanarConfiguration = 0
    elif stored.ndim == 3:
        header.NumberOfFrames = len(stored)
    header.BitsAllocated = header.BitsStored = 8 * stored.dtype.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(stored.dtype.kind == "i")
    header.PatientName, header.PatientID = PERSON, "4711"
    header.Modality, header.StudyDate = "CT", "20260101"
    for name, value in tags.items():
        setattr(header, name, value)
    order = ">" if syntax == uids.ExplicitVRBigEndian else "<"
    header.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    if stored.dtype.itemsize == 1:
        header["PixelData"].VR = "OB"
    if syntax == uids.RLELossless:
        header.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
        header.compress(uids.RLELossless, generate_instance_uid=False)
    out = io.BytesIO()
    header.save_as(out, enforce_file_format=True)
    return out.getvalue()


def values(data: bytes, frame: int = 0) -> np.ndarray:
    return dicom_pixels.pixels(data, dicom.look(data, len(data)), frame)


def numbers(
    seed: int, high: int = 4096, shape: tuple[int, ...] = (10, 12), kind: type = np.uint16
) -> np.ndarray:
    low = -high // 2 if np.dtype(kind).kind == "i" else 0
    return np.random.default_rng(seed).integers(low, low + high, shape).astype(kind)


STORED = {
    "12 bits": (numbers(0), {"BitsStored": 12, "HighBit": 11}),
    "16 bits, signed": (numbers(1, 2**16, kind=np.int16), {}),
    "12 bits, signed": (numbers(2, 4096, kind=np.int16), {"BitsStored": 12, "HighBit": 11}),
    "8 bits": (numbers(3, 256, (9, 11), np.uint8), {}),
    "frames": (numbers(4, 4096, (3, 10, 12)), {"BitsStored": 12, "HighBit": 11}),
    "colour": (numbers(5, 256, (10, 12, 3), np.uint8), {}),
}
SYNTAXES = (
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.RLELossless,
)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name[:20])
@pytest.mark.parametrize("what", STORED)
def test_pixels_are_those_that_pydicom_reads(what, syntax):
    stored, tags = STORED[what]
    data = file_of(stored, syntax, **tags)
    theirs = pydicom.dcmread(io.BytesIO(data)).pixel_array
    for frame, expected in enumerate(theirs if what == "frames" else [theirs]):
        np.testing.assert_array_equal(values(data, frame), expected)


def test_colours_that_lie_in_planes_or_as_brightness_are_turned_to_red_green_and_blue():
    stored = numbers(6, 256, (10, 12, 3), np.uint8)
    planes = np.ascontiguousarray(stored.transpose(2, 0, 1)).reshape(10, 12, 3)
    np.testing.assert_array_equal(values(file_of(planes, PlanarConfiguration=1)), stored)
    data = file_of(stored, PhotometricInterpretation="YBR_FULL")
    theirs = pydicom.dcmread(io.BytesIO(data)).pixel_array
    assert np.abs(values(data).astype(int) - theirs).max() <= 1


def test_a_palette_gives_the_colours_that_pydicom_gives():
    stored = numbers(7, 16, (10, 12), np.uint8)
    table = numbers(8, 2**16, (3, 16))
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, column in zip(("Red", "Green", "Blue"), table, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = column.astype("<u2").tobytes()
    data = file_of(stored, **tags)
    header = pydicom.dcmread(io.BytesIO(data))
    theirs = pydicom.pixels.apply_color_lut(header.pixel_array, header)
    np.testing.assert_array_equal(values(data), theirs >> 8)


def group(**parts: Any) -> Any:
    """A functional group: `group(FrameVOILUTSequence={"WindowCenter": 40})`."""
    found = pydicom.Dataset()
    for sequence, tags in parts.items():
        inner = pydicom.Dataset()
        for name, value in tags.items():
            setattr(inner, name, value)
        setattr(found, sequence, [inner])
    return found


def test_rescale_and_window_are_found_at_the_top_in_the_shared_group_and_in_that_of_the_frame():
    stored = numbers(9, 4096, (2, 10, 12))
    scale = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    each = [{"WindowCenter": centre, "WindowWidth": 100} for centre in (40, 80)]
    top = file_of(stored, **scale, WindowCenter=[40, 80], WindowWidth=[100, 9])
    np.testing.assert_array_equal(values(top, 1), stored[1] * 2.0 - 1000)
    assert dicom.look(top, len(top)).window(1) == Window(40, 100, "LINEAR")
    shared = file_of(
        stored, SharedFunctionalGroupsSequence=[group(PixelValueTransformationSequence=scale)]
    )
    np.testing.assert_array_equal(values(shared, 1), stored[1] * 2.0 - 1000)
    own = file_of(
        stored,
        PerFrameFunctionalGroupsSequence=[
            group(
                PixelValueTransformationSequence=scale | {"RescaleSlope": 1 + k},
                FrameVOILUTSequence=each[k] | {"VOILUTFunction": "SIGMOID"},
            )
            for k in range(2)
        ],
    )
    for k in range(2):
        np.testing.assert_array_equal(values(own, k), stored[k] * (1.0 + k) - 1000)
    assert dicom.look(own, len(own)).window(1) == Window(80, 100, "SIGMOID")


@pytest.mark.parametrize("curve", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_draws_what_pydicom_draws(curve):
    stored = numbers(10)
    tags = {
        "BitsStored": 12,
        "HighBit": 11,
        "WindowCenter": 900,
        "WindowWidth": 1500,
        "VOILUTFunction": curve,
    }
    data = file_of(stored, **tags)
    header = pydicom.dcmread(io.BytesIO(data))
    theirs = pydicom.pixels.apply_windowing(header.pixel_array, header) / 4095
    window = dicom.look(data, len(data)).window(0)
    assert window is not None
    np.testing.assert_allclose(window.light(values(data)), theirs, atol=1e-3)


def test_a_long_header_is_read_again_as_a_whole():
    data = file_of(numbers(11), ImageComments="x" * 1000, PixelSpacing=[0.5, 0.5])
    with pytest.raises(Short):
        dicom.look(data[:600], len(data))
    assert dicom.look(data[: len(data) - 10], len(data)).about == {
        "modality": "CT",
        "pixel_mm": "0.5",
    }


def forged(data: bytes, tag: tuple[int, int], value: bytes) -> bytes:
    """Writes other bytes over the value of an element of an explicit little-endian file."""
    at = data.index(struct.pack("<HH", *tag))
    return data[: at + 8] + value + data[at + 8 + len(value) :]


PLAIN: dict[str, Any] = {"BitsStored": 12, "HighBit": 11}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: file_of(numbers(0), **PLAIN)[:-20], "is cut off (truncated)"),
        (lambda: file_of(numbers(0), NumberOfFrames=10**6), "declares 1,000,000 × 12 × 10 pixels, and holds fewer"),
        (lambda: forged(file_of(numbers(0)), (0x28, 0x10), b"\xff\xff"), "holds fewer of them"),
        (lambda: forged(forged(file_of(numbers(0)), (0x28, 0x10), b"\xff\xff"), (0x28, 0x11), b"\xff\xff"), "megapixels are allowed"),
        (lambda: forged(file_of(numbers(0)), (0x28, 0x10), b"\0\0"), "says Rows 0"),
        (lambda: file_of(numbers(0), BitsStored=20), "has 20 of 16 bits"),
        (lambda: file_of(numbers(0), RescaleSlope="0"), "says RescaleSlope 0"),
        (lambda: file_of(numbers(0), PhotometricInterpretation="HSV"), "has pixels of the kind 'HSV'"),
        (lambda: file_of(numbers(0), ModalityLUTSequence=[group()]), "maps its values by a table"),
        (lambda: file_of(numbers(0, shape=(2, 10, 12)), PerFrameFunctionalGroupsSequence=[group()]), "describes 1"),
        (lambda: forged(file_of(numbers(0), uids.RLELossless, NumberOfFrames=1), (0x28, 0x8), b"99"), "declares 99 frames"),
        (lambda: forged(file_of(numbers(0), WindowCenter=40, WindowWidth=80), (0x28, 0x1050), b"na"), "usable number"),
        (lambda: file_of(numbers(0))[:300], "holds no picture"),
        (lambda: file_of(numbers(0), uids.DeflatedExplicitVRLittleEndian), "is deflated as a whole"),
    ],
)  # fmt: skip
def test_a_forged_file_is_refused(make, said):
    data = make()
    with pytest.raises(Refused) as refused:
        dicom.look(data, len(data))
    assert said in str(refused.value)


def test_runs_that_are_forged_never_unpack_to_more_than_the_header_says():
    assert dicom_pixels.unpacked(bytes([129, 5]) * 1000, 100) == b"\5" * 100
    with pytest.raises(Refused, match="too short"):
        dicom_pixels.unpacked(bytes([129, 5]), 1000)
    data = file_of(numbers(0), uids.RLELossless, **PLAIN)
    scan = dicom.look(data, len(data))
    begin = data.index(struct.pack("<II", 2, 64))
    for spoiled, said in (
        (
            data[:begin] + struct.pack("<I", 9) + data[begin + 4 :],
            "has 9 segments of runs, and needs 2",
        ),
        (data[:begin] + struct.pack("<II", 2, 2**31) + data[begin + 8 :], "lie outside of it"),
        (data[: begin - 4] + b"\xff\xff\xff\x0f" + data[begin:], "is cut off"),
    ):
        with pytest.raises(Refused, match=said):
            dicom_pixels.pixels(spoiled, scan, 0)


def test_packed_pixels_say_which_package_is_missing():
    with pytest.raises(
        Refused,
        match="is packed as JPEG-LS Lossless Image Compression, which needs one more package: ",
    ):
        dicom._allow_packed("1.2.840.10008.1.2.4.80")
    with pytest.raises(Refused, match="which is not read"):
        dicom._allow_packed("1.2.3.4")
    assert dicom_pixels._inner_size(b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x0b\x08\0\7\0\x09") == (9, 7)


@pytest.mark.parametrize(
    "stored", [numbers(0, 256, (16, 24), np.uint8), numbers(1, 256, (16, 24, 3), np.uint8)]
)
def test_a_jpeg_inside_is_unpacked_by_the_package_that_is_there_and_never_at_another_size(stored):
    out = io.BytesIO()
    Image.fromarray(stored).save(out, "JPEG", quality=95)
    header = pydicom.dcmread(io.BytesIO(file_of(stored)))
    header.file_meta.TransferSyntaxUID = uids.JPEGBaseline8Bit
    if stored.ndim == 3:
        header.PhotometricInterpretation = "YBR_FULL_422"
    header.PixelData = pydicom.encaps.encapsulate([out.getvalue()])
    header["PixelData"].is_undefined_length = True
    packed = io.BytesIO()
    header.save_as(packed)
    data = packed.getvalue()
    theirs = pydicom.dcmread(io.BytesIO(data)).pixel_array
    np.testing.assert_array_equal(values(data), theirs)
    with pytest.raises(Refused, match=r"declares 24 × 8 pixels, and its picture says \(24, 16\)"):
        values(forged(data, (0x28, 0x10), b"\x08\0"))


# --- A set ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """A small phantom: eight patients with three slices each."""
    folder = tmp_path_factory.mktemp("phantom") / "scans"
    assert phantom.write(folder, patients=8, slices=3, size=32) == 24
    return folder


def load(path: Path, **values: object) -> Dataset:
    return datasets.load("folder", {"path": str(path), "size": 32, **values})


def test_the_phantom_is_imported_by_patient_and_a_window_keeps_its_greys(scans):
    found = load(scans)
    assert found.classes == phantom.CLASSES and len(found) == 24
    assert found.group == "patient"
    members = found.members
    assert members is not None
    parts = [set(members[index]) for index in found.splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 8
    stored = phantom.draw(8, 3, 32).reshape(-1, 32, 32).astype(float) - phantom.OFFSET
    low, high = np.percentile(stored, (0.5, 99.5))
    note = next(note for note in found.notes if "became black to white" in note)
    said = [
        float(word.rstrip(","))
        for word in note.split()
        if word.rstrip(",").lstrip("-").replace(".", "").isdecimal()
    ]
    assert abs(said[0] - low) < 5 and abs(said[1] - high) < 5


def test_pictures_of_12_bits_keep_their_levels(tmp_path):
    members = {f"{i}.dcm": file_of(numbers(i, shape=(32, 32)), **PLAIN) for i in range(9)}
    assert len(np.unique(load(put(tmp_path / "x.zip", members)).x)) >= 250


def test_nothing_of_a_person_is_kept(scans, setting):
    found = load(scans)
    assert found.attributes is not None
    kept = json.dumps({name: column.tolist() for name, column in found.attributes.items()})
    told = kept + json.dumps([*found.notes, dict(found.source)])
    assert "PHANTOM-0" not in told and "Number 3" not in told and "19000101" not in told
    assert set(found.attributes["modality"]) == {"CT"} and set(found.attributes["body_part"]) == {
        "CHEST"
    }
    assert any("Dropped: " in note and "PatientBirthDate" in note for note in found.notes)
    assert any("burned into pictures" in note for note in found.notes)


def test_codes_are_those_of_one_import_only(scans, tmp_path):
    one = load(scans).members
    other = tmp_path / "more"
    phantom.write(other, patients=8, slices=3, size=32)
    extra = file_of(numbers(0), **PLAIN)
    (other / "clear" / "one.dcm").write_bytes(extra)
    two = load(other).members
    assert one is not None and two is not None
    assert not set(one) & set(two)


def test_a_path_loses_what_its_header_says_of_a_person(tmp_path):
    words = {"Doe": "ab", "Jane": "ab", "4711": "ab"}
    assert unnamed("sick/JANE_doe/4711-1.dcm", words) == "sick/ab_ab/ab-1.dcm"
    assert unnamed("doe/doe/1.dcm", words, {"doe"}) == "doe/ab/1.dcm"
    members, rows = {}, ["file_name,label"]
    for i in range(10):
        who = f"PAT{i // 2}77"
        secret = {"AccessionNumber": f"ACC{i // 2}", "PatientBirthDate": "19610203"}
        data = file_of(
            numbers(i), **PLAIN, PatientID=who, PatientName=f"Study{i // 2}^Anna Maria", **secret
        )
        uid = pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID
        folder = f"Study0/Anna_Maria_19610203_{secret['AccessionNumber']}"
        members[f"{folder}/{uid}.dcm"] = data
        rows.append(f"{uid},{'ab'[i // 4 % 2]}")
        members[f"{folder}/report.txt"] = b"of nobody"
    members["labels.csv"] = "\n".join(rows).encode()
    found = load(put(tmp_path / "x.zip", members))
    assert found.classes == ("a", "b") and len(found) == 10
    told = json.dumps([found.attributes["picture"].tolist(), found.refused, dict(found.source)])
    for word in ("Anna", "Maria", "1961", "ACC", "PAT", "1.2.826"):
        assert word not in told, told
    assert told.count("Study0/") >= 10  # of all of them, so no name of one


def test_windows_are_taken_as_they_are_asked_for(tmp_path):
    ramp = np.tile(np.linspace(0, 4095, 32).astype(np.uint16), (32, 1))
    window = {"WindowCenter": 1000, "WindowWidth": 500}
    kinds = {"MONOCHROME1": "white", "MONOCHROME2": "black"}
    members = {
        f"{word}/{i}.dcm": file_of(
            ramp + i, PhotometricInterpretation=kind, **PLAIN, **window, PatientID=f"{kind}{i}"
        )
        for kind, word in kinds.items()
        for i in range(4)
    }
    file = put(tmp_path / "x.zip", members)
    own = load(file, window="of each file")
    given = load(file, window="as given", centre=1000.0, width=500.0)
    whole = load(file)
    assert any("the window that its file says" in note for note in own.notes)
    y = own.y
    assert y is not None
    black = own.x[np.flatnonzero(y == 0)[0], 0, 0]
    assert black[0] == 0 and black[-1] == 255 and (np.diff(black.astype(int)) >= 0).all()
    white = own.x[np.flatnonzero(y == 1)[0], 0, 0]
    assert white[0] == 255 and white[-1] == 0
    assert abs(own.x.astype(int) - given.x).max() <= 1
    assert len(np.unique(own.x[0, 0, 0])) < 10 < len(np.unique(whole.x[0, 0, 0]))


def test_a_series_in_one_file_becomes_its_frames_and_stays_with_its_patient(tmp_path):
    members = {
        f"{name}/{i}": file_of(numbers(i, 4096, (3, 10, 12)), **PLAIN, PatientID=f"{name}{i}")
        for name in ("a", "b")
        for i in range(3)
    }
    found = load(put(tmp_path / "x.zip", members))
    assert len(found) == 18 and found.classes == ("a", "b")
    assert found.attributes is not None
    assert sorted(set(found.attributes["frame"])) == [0, 1, 2]
    assert found.members is not None and len(set(found.members)) == 6


def test_a_file_that_is_refused_is_named_and_a_table_says_the_classes(tmp_path):
    members = {
        f"{i:02}.dcm": file_of(numbers(i), **PLAIN, PatientID=f"P{i // 2}") for i in range(10)
    }
    rows = ["file_name,label", *(f"{name},{'ab'[i // 5]}" for i, name in enumerate(members))]
    members["broken.dcm"] = members["00.dcm"][:-50]
    members["labels.csv"] = "\n".join(rows).encode()
    found = load(put(tmp_path / "x.zip", members))
    assert found.classes == ("a", "b") and len(found) == 10
    assert ("broken.dcm", "is cut off (truncated)") in found.refused


def test_without_pydicom_an_import_says_what_to_install(scans, monkeypatch):
    from core import catalog

    monkeypatch.setattr(catalog, "installed", lambda module: False)
    with pytest.raises(UserError, match="DICOM needs the package pydicom"):
        datasets.preview({"path": str(scans)})


def test_the_look_before_an_import_shows_the_window_and_the_columns(scans, capsys):
    assert main(["datasets", "folder", "--set", f"path={scans}", "--look", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == 24 and "patient" in told["columns"]
    notes = [note for reading in told["readings"] for note in reading["notes"]]
    assert any("window of centre" in note for note in notes)
