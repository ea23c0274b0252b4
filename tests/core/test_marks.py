"""What a picture says of its making: the mark in its file, and what is read back."""

from __future__ import annotations

import io
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from core.building.marks import mark, source_type
from core.ground import xmp

RUN = "20260101-digits-gan-1a2b"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
X = (np.arange(64).reshape(8, 8) * 4).astype(np.uint8)


def picture(form: str, *more: np.ndarray) -> bytes:
    out = io.BytesIO()
    frames = [Image.fromarray(x).convert("RGB") for x in more]
    film = {"save_all": True, "append_images": frames} if more else {}
    lossless = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(X).convert("RGB" if more else "L").save(out, form, **film, **lossless)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_mark_comes_back_from_every_form_of_picture_and_changes_no_pixel(form):
    plain = picture(form, 255 - X) if form in ("GIF", "WEBP") else picture(form)
    assert xmp.read(plain) is None
    said = xmp.Mark("trainedAlgorithmicMedia", 'a <"&é> run', "synthetic")
    marked = xmp.write(plain, said)
    assert xmp.write(plain, said) == marked
    assert xmp.read(marked) == said
    assert np.array_equal(pixels(marked), pixels(plain))
    with Image.open(io.BytesIO(marked)) as opened:
        assert getattr(opened, "n_frames", 1) == (2 if form in ("GIF", "WEBP") else 1)


def test_a_film_as_mp4_takes_a_mark_behind_its_boxes():
    film = (16).to_bytes(4, "big") + b"ftypisom" + bytes(4) + (8).to_bytes(4, "big") + b"mdat"
    marked = xmp.write(film, xmp.made_by(RUN))
    assert marked.startswith(film)
    assert xmp.read(marked) == xmp.made_by(RUN)
    assert [name for name, _, _ in xmp.boxes(marked)] == [b"ftyp", b"mdat", b"uuid"]


def test_pillow_and_an_xml_parser_find_the_words_of_the_iptc_in_a_png():
    marked = mark(picture("PNG"), "synthetic", RUN)
    with Image.open(io.BytesIO(marked)) as opened:
        opened.verify()  # every checksum
        packet = opened.info["xmp"]
    (about,) = ElementTree.fromstring(packet).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    assert about.attrib[IPTC + "DigitalSourceType"] == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )
    assert about.attrib[IPTC + "AISystemUsed"] == "Simulacra"
    assert about.attrib[IPTC + "AISystemVersionUsed"] == RUN
    assert mark(marked, "synthetic", RUN) == marked  # a second time changes nothing


@pytest.mark.parametrize(
    ("origin", "run", "parameters", "source"),
    [
        ("real", "", "", None),
        ("real", RUN, "", None),
        ("synthetic", RUN, "", "trainedAlgorithmicMedia"),
        ("augmented", "", '[{"step": "rotate", "degrees": "3"}]', "algorithmicallyEnhanced"),
        ("augmented", "", '[{"step": "neighbour"}]', "compositeWithTrainedAlgorithmicMedia"),
        ("augmented", RUN, "", "compositeWithTrainedAlgorithmicMedia"),
        ("augmented", "", '"step" is no JSON', "algorithmicallyEnhanced"),
        ("adversarial", RUN, "", "algorithmicallyEnhanced"),
        ("adversarial", RUN, '{"generator": "a run"}', "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_the_source_type_follows_from_the_origin_and_from_what_had_a_part_in_it(
    origin, run, parameters, source
):
    assert source_type(origin, run, parameters) == source
    plain = picture("PNG")
    marked = mark(plain, origin, run, parameters)
    assert (marked == plain) == (source is None)
    said = xmp.read(marked)
    assert (said.source if said else None) == source
    assert b"AISystemUsed" not in marked or source != "algorithmicallyEnhanced"


def test_forged_metadata_is_nothing_known_and_costs_nothing():
    plain = picture("PNG")

    def with_text(body: bytes, packed: bytes = b"\0") -> bytes:
        content = b"iTXtXML:com.adobe.xmp\0" + packed + b"\0\0\0" + body
        size = (len(content) - 4).to_bytes(4, "big")
        return plain[:33] + size + content + zlib.crc32(content).to_bytes(4, "big") + plain[33:]

    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    said = xmp.write(plain, xmp.made_by(RUN))
    honest = said[said.index(b"<?xpacket") : said.index(b'<?xpacket end="r"?>')]
    declared = honest.replace(b"<x:xmpmeta", b'<!DOCTYPE x [<!ENTITY b "b">]><x:xmpmeta', 1)
    assert xmp.read(with_text(honest)) == xmp.made_by(RUN)
    forged = [
        with_text(bomb),
        with_text(declared),
        with_text(b"<a>" * 200_000),
        with_text(b"\xff\xfe no xml"),
        with_text(zlib.compress(b" " * 50_000_000), b"\1"),
        with_text(b"\0", b"\1"),
        plain[:33] + b"\xff\xff\xff\xff" + b"iTXt" + plain[33:],
        plain[:20],
        b"\xff\xd8\xff\xe1\0\1http://ns.adobe.com/xap/1.0/\0",
        b"\xff\xd8\xff\xe1\xff\xff",
        b"RIFF\xff\xff\xff\xffWEBPXMP \xff\xff\xff\xff",
        b"\0\0\0\1ftyp" + bytes(8),
        b"GIF89a",
        b"",
    ]
    assert [xmp.read(data) for data in forged] == [None] * len(forged)
    with pytest.raises(ValueError, match="PNG, JPEG"):
        xmp.write(b"BM", xmp.made_by(RUN))


def test_marks_of_other_programs_are_read_as_elements_and_references_too():
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<r:Description xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        "{}</r:Description></r:RDF></x:xmpmeta>"
    )
    for said in (
        "<i:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/humanEdits</i:DigitalSourceType>",
        '<i:DigitalSourceType r:resource="https://cv.iptc.org/newscodes/digitalsourcetype/humanEdits/"/>',
    ):
        segment = b"http://ns.adobe.com/xap/1.0/\0" + packet.format(said).encode()
        plain = picture("JPEG")
        data = plain[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + plain[2:]
        assert xmp.read(data) == xmp.Mark("humanEdits", "", "", "")


def test_the_steps_that_ask_a_generator_are_those_that_need_a_run():
    from core.augment import augmentations
    from core.building.marks import GENERATIVE

    needing = {entry.name for entry in augmentations if "run" in entry.needs}
    assert {name for name in needing if not name.startswith("test")} == GENERATIVE
