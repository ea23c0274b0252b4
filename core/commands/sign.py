"""Signs a picture by C2PA with a certificate of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.commands import commands, out_file, show, write


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    from core.building.signing import ALGORITHMS

    parser.add_argument("file", metavar="FILE", help="PNG, JPEG or WebP that was made here")
    parser.add_argument(
        "--cert", required=True, help="PEM file: the certificate, and those above it"
    )
    parser.add_argument("--key", required=True, help="PEM file: its private key (PKCS#8)")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="es256", help="of the key")
    parser.add_argument(
        "--out", required=True, help="the signed picture, a new file of the same kind"
    )


@commands.add("sign", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Sign a picture by C2PA, without a thumbnail, with a certificate of your own (extra c2pa)."""
    from core.building import signing

    file = Path(arguments.file)
    out = out_file(arguments.out, file.suffix.lower())
    signed = signing.sign(
        signing.picture(file),
        Path(arguments.cert),
        Path(arguments.key),
        file.name,
        arguments.algorithm,
    )
    write(out, signed)
    says = signing.validated(signed)
    show(
        arguments,
        {"out": str(out), "bytes": len(signed), "says": says},
        [f"Signed {file} as {out} ({len(signed):,} bytes). {says}"],
    )
