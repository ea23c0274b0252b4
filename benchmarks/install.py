"""Adds up what an installation of the app takes on the disk: the packages of requirements.txt and what these need."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from benchmarks.evidence import row


def needed(names: list[str]) -> set[str]:
    """Lists packages and all that they need here, by their normal names."""
    packages: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in packages:
            continue
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # not for this system, or an extra
            continue
        packages.add(name)
        # torch asks for what CUDA consists of by the names of extras
        asked = [each for each in wanted if "extra ==" not in each or name == "cuda-toolkit"]
        names += [re.split(r"[\s<>=!~;\[(]", each)[0] for each in asked]
    return packages


def main() -> None:
    """Measures and prints."""
    lines = Path("requirements.txt").read_text().splitlines()
    names = [line.split("==")[0] for line in lines if line and not line.startswith("#")]
    sizes = {
        name: sum(file.size or 0 for file in metadata.files(name) or ()) for name in needed(names)
    }
    total = sum(sizes.values()) / 1e9
    largest = ", ".join(
        f"{name} {sizes[name] / 1e9:.1f}" for name in sorted(sizes, key=lambda n: -sizes[n])[:3]
    )
    row(
        f"Disk that an installation takes: {total:.1f} GB in {len(sizes)} packages ({largest})",
        "Linux, requirements.txt without extras",
        said=f"about {total:.0f} GB of packages",
    )


if __name__ == "__main__":
    main()
