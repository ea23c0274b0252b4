"""Signing a picture by C2PA: what can be checked without the extra, and with it the whole way."""

from __future__ import annotations

import datetime
import io
import json

import numpy as np
import pytest
from PIL import Image

from core import catalog
from core.__main__ import main
from core.building import detect, signing
from core.building.marks import mark
from core.catalog import UserError
from core.ground import xmp

RUN = "20260101-000000-gone"


def marked(kind="PNG"):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return mark(out.getvalue(), "synthetic", RUN)


def issued(folder):
    """Issues a certificate for signing by an authority of its own; gives the files of certificate and key."""
    x509 = pytest.importorskip("cryptography.x509")
    hazmat = "cryptography.hazmat.primitives"
    hashes, serialization, ec = (
        pytest.importorskip(f"{hazmat}.{name}")
        for name in ("hashes", "serialization", "asymmetric.ec")
    )

    def named(name):
        oid = x509.oid.NameOID
        parts = [(oid.ORGANIZATION_NAME, "A lab"), (oid.COMMON_NAME, name)]
        return x509.Name([x509.NameAttribute(*part) for part in parts])

    def usage(**own):
        every = (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        )  # fmt: skip
        return x509.KeyUsage(**(dict.fromkeys(every, False) | own))

    above, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    since = datetime.datetime(2026, 1, 1)

    def started(name, key):
        built = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named("Root"))
        built = built.public_key(key.public_key()).serial_number(x509.random_serial_number())
        until = since + datetime.timedelta(days=3650)
        return built.not_valid_before(since).not_valid_after(until)

    root = started("Root", above).add_extension(x509.BasicConstraints(True, None), True)
    root = root.add_extension(usage(key_cert_sign=True, crl_sign=True), True)
    leaf = started("The signer", own).add_extension(x509.BasicConstraints(False, None), True)
    leaf = leaf.add_extension(usage(digital_signature=True), True)
    purpose = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
    leaf = leaf.add_extension(purpose, False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False
    )
    pem = serialization.Encoding.PEM
    chain = [each.sign(above, hashes.SHA256()).public_bytes(pem) for each in (leaf, root)]
    (folder / "cert.pem").write_bytes(b"".join(chain))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(own.private_bytes(pem, *plain))
    return folder / "cert.pem", folder / "key.pem"


def test_without_the_extra_both_sides_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "installed", lambda module: False)
    monkeypatch.setattr(signing, "installed", lambda module: False)
    with pytest.raises(UserError, match=r"A C2PA signature needs the package c2pa-python, which i"):
        signing.sign(marked(), tmp_path / "c.pem", tmp_path / "k.pem")
    assert signing.validated(marked()).endswith("whether it is valid was not checked.")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_signed_picture_is_small_keeps_its_pixels_and_tells_of_a_change(kind, tmp_path, capsys):
    pytest.importorskip("c2pa")
    cert, key = issued(tmp_path)
    plain = marked(kind)
    end = kind.lower().replace("jpeg", "jpg")
    (tmp_path / f"a.{end}").write_bytes(plain)
    words = ["sign", str(tmp_path / f"a.{end}"), "--cert", str(cert), "--key", str(key), "--json"]
    assert main([*words, "--out", str(tmp_path / f"b.{end}")]) == 0
    told = json.loads(capsys.readouterr().out)
    signed = (tmp_path / f"b.{end}").read_bytes()
    assert told["bytes"] == len(signed) < len(plain) + 8000  # no thumbnail
    before, after = (np.asarray(Image.open(io.BytesIO(data))) for data in (plain, signed))
    assert (before == after).all() and xmp.read(signed) == xmp.read(plain)
    found = detect.picture("b", signed)
    assert "fits the picture: whoever signed it calls himself 'The signer'" in found.sentence
    changed = bytearray(signed)
    changed[-50] ^= 1
    assert "does not fit" in signing.validated(bytes(changed))


def test_what_cannot_be_signed_is_told(tmp_path):
    pytest.importorskip("c2pa")
    cert, key = issued(tmp_path)
    with pytest.raises(UserError, match=r"carries no mark that says how it was made"):
        signing.sign(b"\x89PNG", cert, key)
    with pytest.raises(UserError, match=r"holds no key in PEM"):
        signing.sign(marked(), cert, cert)
    with pytest.raises(UserError, match=r"'cert.pem' and 'key.pem' cannot sign: "):
        signing.sign(marked(), cert, key, algorithm="ps256")
    with pytest.raises(UserError, match=r"The certificate .* cannot be read"):
        signing.sign(marked(), tmp_path / "none.pem", key)
