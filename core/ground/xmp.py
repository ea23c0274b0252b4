"""What a picture says of its making, as XMP inside its file: written in fixed bytes, and read without decoding a pixel.

The words are those of the IPTC: ``DigitalSourceType`` says how a picture came to be, ``AISystemUsed`` and
``AISystemVersionUsed`` which generator made it. What only this program knows (the run, the origin) stands beside them
under a name of its own.

References:
    IPTC, Photo Metadata Standard 2025.1, https://iptc.org/std/photometadata/specification/
    IPTC, NewsCodes: digital source type, https://cv.iptc.org/newscodes/digitalsourcetype/
    Adobe, XMP Specification Part 3: storage in files, 2020
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

PROGRAM = "Simulacra"
SourceType = Literal[
    "trainedAlgorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
    "algorithmicallyEnhanced",
]
TYPES: tuple[SourceType, ...] = get_args(SourceType)
_TRAINED = TYPES[:2]  # those that a trained generator had a part in
_CODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_OWN = "https://simulacra.invalid/xmp/1/"  # a name only: of a domain that never exists
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_MOST = 1 << 20  # bytes of a packet that is read
_PNG = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"XML:com.adobe.xmp"
_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_GIF = b"\x21\xff\x0bXMP DataXMP"
_GIF_END = (
    b"\x01" + bytes(range(255, -1, -1)) + b"\0"
)  # so that readers that know nothing of it find its end
_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


@dataclass(frozen=True)
class Mark:
    """How a picture was made.

    Attributes:
        source: Its digital source type, a word of the IPTC; one of :data:`TYPES` where we write it.
        run: Id of the run that had a part in it; empty for none.
        origin: The origin of an item of a dataset: ``synthetic``, ``augmented``, ``adversarial``; empty where the
            picture is no item, or the file does not say.
        program: What made it: :data:`PROGRAM` for us.
    """

    source: str
    run: str = ""
    origin: str = ""
    program: str = PROGRAM


def made_by(run: str) -> Mark:
    """Gives the mark of a picture that a generative model has made."""
    return Mark("trainedAlgorithmicMedia", run)


def partly_by(run: str) -> Mark:
    """Gives the mark of a picture that shows real items beside or changed by what a generative model has made."""
    return Mark("compositeWithTrainedAlgorithmicMedia", run)


# --- Writing ----------------------------------------------------------------------------------------------------------


def write(data: bytes, mark: Mark) -> bytes:
    """Puts a mark into a picture or film; the pixels stay as they are, and equal input gives equal bytes.

    Args:
        data: A whole PNG, JPEG, GIF, animated WebP or MP4. XMP that a PNG holds already is replaced.
        mark: What it says.

    Raises:
        ValueError: If it is of no such format.
    """
    packet = _packet(mark)
    if data.startswith(_PNG):
        return _into_png(data, _chunk(mark))
    if data.startswith(b"\xff\xd8\xff"):
        segment = _JPEG + packet
        at = 2
        if data[2:4] == b"\xff\xe0":  # JFIF wants to be first
            at = 4 + int.from_bytes(data[4:6], "big")
        head = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big")
        return data[:at] + head + segment + data[at:]
    if data.startswith((b"GIF87a", b"GIF89a")):
        at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)  # behind the palette
        return data[:at] + _GIF + packet + _GIF_END + data[at:]
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        packet += b" " * (len(packet) % 2)
        body = data[8:20] + bytes([data[20] | 4]) + data[21:]  # the flag: there is XMP
        body += b"XMP " + len(packet).to_bytes(4, "little") + packet
        return b"RIFF" + len(body).to_bytes(4, "little") + body
    if data[4:8] == b"ftyp":
        return data + (24 + len(packet)).to_bytes(4, "big") + b"uuid" + _UUID + packet
    raise ValueError("a mark goes into a PNG, JPEG, GIF, animated WebP or MP4")


@lru_cache(256)
def _packet(mark: Mark) -> bytes:
    said = {
        "xmlns:rdf": _RDF,
        "xmlns:xmp": _XMP,
        "xmlns:Iptc4xmpExt": _IPTC,
        "xmlns:simulacra": _OWN,
    }
    about = {
        "rdf:about": "",
        "xmp:CreatorTool": mark.program,
        "Iptc4xmpExt:DigitalSourceType": _CODES + mark.source,
    }
    if mark.source in _TRAINED:  # their mere presence is read as "made by AI"
        about["Iptc4xmpExt:AISystemUsed"] = mark.program
        if mark.run:
            about["Iptc4xmpExt:AISystemVersionUsed"] = mark.run
    about |= {f"simulacra:{k}": v for k, v in (("Run", mark.run), ("Origin", mark.origin)) if v}
    outer, inner = (
        " ".join(f"{name}={quoteattr(_clean(value))}" for name, value in attributes.items())
        for attributes in (said, about)
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {outer}><rdf:Description {inner}/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="r"?>'
    ).encode()


def _clean(text: str) -> str:
    """Leaves out what XML cannot hold, and what is too long for a segment of a JPEG."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "", text)[:200]


@lru_cache(256)
def _chunk(mark: Mark) -> bytes:
    """Writes a mark as a chunk of a PNG: length, name, keyword, not packed, no language, text, checksum."""
    content = b"iTXt" + _KEYWORD + b"\0\0\0\0\0" + _packet(mark)
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


def _into_png(data: bytes, chunk: bytes) -> bytes:
    for name, start, end in _chunks(data):
        if name == b"IDAT":
            break
        if name == b"iTXt" and data.startswith(_KEYWORD + b"\0", start + 8):
            data = data[:start] + data[end:]
            break
    return data[:33] + chunk + data[33:]  # behind the header, before all else


# --- Reading ----------------------------------------------------------------------------------------------------------


def read(data: bytes) -> Mark | None:
    """Reads what the XMP of a picture says of its making; None where it says nothing of it, or is damaged.

    Args:
        data: The file, PNG, JPEG, GIF, WebP or MP4; nobody vouches for it, and none of its pixels are decoded.
    """
    packet = next(packets(data), None)
    return None if packet is None else _parsed(packet[:_MOST])


def packets(data: bytes) -> Iterator[bytes]:
    """Finds the XMP packets of a file, each at most :data:`_MOST` bytes once unpacked."""
    if data.startswith(_PNG):
        for name, start, end in _chunks(data):
            if name == b"iTXt" and data.startswith(_KEYWORD + b"\0", start + 8):
                yield from _text(data[start + 8 + len(_KEYWORD) + 1 : end - 4])
    elif data.startswith(b"\xff\xd8"):
        for name, start, end in segments(data):
            if name == 0xE1 and data.startswith(_JPEG, start):
                yield data[start + len(_JPEG) : end]
    elif data.startswith((b"GIF87a", b"GIF89a")):
        at = data.find(_GIF)
        if at >= 0:
            end = data.find(_GIF_END, at)
            yield data[at + len(_GIF) : end if end >= 0 else at + len(_GIF) + _MOST]
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        for name, start, end in blocks(data):
            if name == b"XMP ":
                yield data[start:end]
    elif data[4:8] == b"ftyp":
        for name, start, end in boxes(data):
            if name == b"uuid" and data.startswith(_UUID, start):
                yield data[start + 16 : end]


def _text(rest: bytes) -> Iterator[bytes]:
    """Reads the text of an iTXt chunk behind its keyword, packed or not."""
    packed, method, body = rest[:1], rest[1:2], rest[2:]
    _, _, body = body.partition(b"\0")  # language
    _, _, body = body.partition(b"\0")  # keyword, translated
    if packed == b"\0":
        yield body
    elif method == b"\0":
        try:
            yield zlib.decompressobj().decompress(body, _MOST)
        except zlib.error:
            return


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Lists the chunks of a PNG: name, where they begin and end."""
    at = len(_PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield data[at + 4 : at + 8], at, end
        at = end


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Lists the chunks of a PNG that are no pixels: name, content."""
    for name, start, end in _chunks(data):
        if name not in (b"IDAT", b"fdAT"):
            yield name, data[start + 8 : end - 4]


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Lists the segments of a JPEG before its pixels: code, where their content begins and ends."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        code = data[at + 1]
        if code == 0xFF:  # padding
            at += 1
            continue
        if code in (0xDA, 0xD9):
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(data):
            return
        yield code, at + 4, end
        at = end


def blocks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Lists the chunks of a WebP: name, where their content begins and ends."""
    at = 12
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            return
        yield data[at : at + 4], at + 8, end
        at = end + end % 2


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Lists the outermost boxes of an MP4, AVIF or HEIC: name, where their content begins and ends."""
    at = 0
    while at + 8 <= len(data):
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = len(data) if size == 0 else at + size
        if end < start or end > len(data):
            return
        yield data[at + 4 : at + 8], start, end
        at = end


def _parsed(packet: bytes) -> Mark | None:
    """Reads the properties of a packet, as attributes, elements or references; entities are refused."""
    found: dict[str, str] = {}
    inside: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        inside.append(name)
        found.update({key: value for key, value in attributes.items() if key in _READ})
        if name in _READ and (value := attributes.get(f"{_RDF} resource")):
            found[name] = value

    def text(content: str) -> None:
        if inside and inside[-1] in _READ:
            found[inside[-1]] = (found.get(inside[-1], "") + content)[:1000]

    def refuse(*_: object) -> None:
        raise ValueError("a packet declares no entities")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.CharacterDataHandler = start, text
    parser.EndElementHandler = lambda name: inside.pop()
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(packet.rstrip(b"\0 \n"), True)
    except (expat.ExpatError, ValueError):
        return None
    said = {short: found.get(name, "").strip()[:200] for name, short in _READ.items()}
    if not said["source"] and not said["run"] and said["program"] != PROGRAM:
        return None
    source = said["source"].rstrip("/").rpartition("/")[2]
    return Mark(source, said["run"] or said["version"], said["origin"], said["program"])


_READ = {
    f"{_IPTC} DigitalSourceType": "source",
    f"{_IPTC} AISystemVersionUsed": "version",
    f"{_XMP} CreatorTool": "program",
    f"{_OWN} Run": "run",
    f"{_OWN} Origin": "origin",
}
