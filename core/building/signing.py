"""Signs a single picture by C2PA with a certificate of one's own, and says what such a signature is worth.

A signature is never the same twice and is lost when a picture is saved anew, so a dataset is not signed item by item:
its items carry XMP, which is deterministic.

References:
    C2PA, Technical Specification 2.2, https://spec.c2pa.org
    IPTC, NewsCodes: digital source type, https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.catalog import UserError, installed, optional, reason
from core.ground import xmp
from core.ground.settings import settings
from core.ground.writing import one_line

FORMATS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
# a thumbnail of a small picture would be many times its size; and nothing is asked of a network
_ASIDE = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
_MOST = 64 * 1024  # bytes of a certificate chain or key


def sign(
    picture: bytes, certificate: Path, key: Path, title: str = "", algorithm: str = "es256"
) -> bytes:
    """Signs a picture that says by its XMP how it was made.

    Args:
        picture: A PNG, JPEG or WebP file of this program.
        certificate: A PEM file of the certificate and those above it, the own one first.
        key: Its private key, PKCS#8 in PEM.
        title: What the manifest calls the picture.
        algorithm: What the key is for, one of :data:`ALGORITHMS`.

    Returns:
        The file with a manifest: who signs, and the digital source type and run of the mark. Two calls differ.

    Raises:
        UserError: If the extra is not there, the picture carries no mark, or the certificate or key cannot be used.
    """
    c2pa = optional("c2pa", "A C2PA signature")
    if algorithm not in ALGORITHMS:
        raise UserError(
            f"A C2PA signature is of the kind {', '.join(ALGORITHMS)}, got {algorithm!r}. Choose the one of the key."
        )
    kind = _format(picture)
    mark = xmp.read(picture)
    if kind is None or mark is None:
        raise UserError(
            f"{title or 'The picture'!r} carries no mark that says how it was made, so there is nothing to sign for. "
            "Sign a PNG, JPEG or WebP that was drawn, sampled or exported here."
        )
    chain, secret = (
        _text(certificate, "certificate", "BEGIN CERTIFICATE"),
        _text(key, "key", "PRIVATE KEY"),
    )
    out = io.BytesIO()
    try:
        info = c2pa.C2paSignerInfo(algorithm, chain, secret, None)
        with (
            c2pa.Context.from_dict(_ASIDE) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(_manifest(mark, title)), context=context) as builder,
        ):
            builder.sign(signer, kind, io.BytesIO(picture), out)
    except Exception as error:  # whatever the library raises for a certificate
        raise UserError(
            f"{certificate.name!r} and {key.name!r} cannot sign: {reason(error)}. C2PA takes a certificate for signing "
            "(extended key usage emailProtection or documentSigning) that an authority has issued, never one that "
            "signs itself, with those above it in the same file, and the key of the kind that --algorithm names."
        ) from error
    return out.getvalue()


def validated(data: bytes) -> str:
    """Says in a sentence what a picture's C2PA manifest is worth, as far as that can be told here."""
    if not installed("c2pa") or (kind := _format(data)) is None:
        return "A C2PA manifest is there; whether it is valid was not checked."
    c2pa = optional("c2pa", "C2PA")
    try:
        with (
            c2pa.Context.from_dict(_ASIDE) as context,
            c2pa.Reader(kind, io.BytesIO(data), context=context) as reader,
        ):
            said = json.loads(reader.json())
            state = reader.get_validation_state()
    except Exception as error:  # whatever the library raises for a forged manifest
        return f"A C2PA manifest is there, and cannot be read: {one_line(reason(error))[:200]}."
    signer = _signer(said)
    if state == "Trusted":
        return (
            f"A C2PA manifest is there, and valid: signed by {signer}, whom a list of trust names."
        )
    if state == "Valid":
        return (
            f"A C2PA manifest is there, and fits the picture: whoever signed it calls himself {signer}, "
            "and nobody here vouches for that."
        )
    return "A C2PA manifest is there, and does not fit: the picture was changed after it was signed, or it is forged."


def _manifest(mark: xmp.Mark, title: str) -> dict[str, Any]:
    created: dict[str, Any] = {
        "action": "c2pa.created",
        "digitalSourceType": f"http://cv.iptc.org/newscodes/digitalsourcetype/{mark.source}",
    }
    if mark.run:
        created["parameters"] = {"run": mark.run}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    return {
        "claim_generator_info": [{"name": xmp.PROGRAM}],
        "title": title or "picture",
        "assertions": [actions],
    }


def _signer(said: Mapping[str, Any]) -> str:
    """Gives the name in the active manifest's certificate."""
    try:
        info = said["manifests"][said["active_manifest"]]["signature_info"]
        name = info.get("common_name") or info.get("issuer") or ""
    except (KeyError, TypeError, AttributeError):
        name = ""
    return repr(one_line(str(name))[:100]) if name else "nobody by name"


def _format(data: bytes) -> str | None:
    return next((kind for head, kind in FORMATS.items() if data.startswith(head)), None)


def _text(file: Path, what: str, holds: str) -> bytes:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST)
    except OSError as error:
        raise UserError(
            f"The {what} {str(file)!r} cannot be read ({error.strerror or error}). Name a PEM file."
        ) from None
    if holds.encode() not in text:
        raise UserError(
            f"{str(file)!r} holds no {what} in PEM (no line {holds!r}). Name the {what} that C2PA shall sign with."
        )
    return text


def picture(file: Path) -> bytes:
    """Reads a picture that is to be signed.

    Raises:
        UserError: If it cannot be read, or is larger than what may be uploaded.
    """
    most = settings().max_upload_mb * 2**20
    try:
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise UserError(
            f"{str(file)!r} cannot be read ({error.strerror or error}). Name a picture."
        ) from None
    if len(data) > most:
        raise UserError(
            f"{str(file)!r} has more than {most // 2**20} MB. Sign a smaller picture, or set SIMULACRA_MAX_UPLOAD_MB."
        )
    return data
