"""Where data and runs live, which device trains, and what a visitor may do.

Every setting is an environment variable ``SIMULACRA_<NAME>``, or a line of that form in ``.env``.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.catalog import UserError

VISITOR_MB = 20  # of an upload to a view-only server, whatever is allowed elsewhere


class Settings(BaseSettings):
    """The server's settings; read once per process."""

    model_config = SettingsConfigDict(
        env_prefix="SIMULACRA_", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Field(
        default=Path("var"), description="Where jobs, imported datasets and caches are written."
    )
    data_dir: Path | None = Field(
        default=None, description="Where downloaded datasets live; HOME/data by default."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Device that trains and samples; mps (Apple's GPU) trains only."
    )
    slots_train: int = Field(
        default=1, ge=1, le=64, description="Trainings that run at the same time."
    )
    slots_short: int = Field(
        default=1, ge=1, le=64, description="Short jobs that run at the same time."
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Processor threads of a worker; 0 leaves one core to the pages.",
    )
    nice: int = Field(
        default=10, ge=0, le=19, description="How far a worker steps back for the pages."
    )
    view_only: bool = Field(
        default=False, description="Serve everything for looking, change nothing."
    )
    code: str = Field(
        default="",
        description="Programs of this machine whose generators are opened: package.module:factory, with commas.",
    )
    gallery: bool = Field(
        default=True, description="Show the trained runs that ship with the code."
    )
    max_images: int = Field(
        default=1_000_000_000, ge=1, description="Images that one training may see."
    )
    max_seconds: int = Field(
        default=0, ge=0, description="Seconds that one job may run; 0 is without limit."
    )
    max_queue: int = Field(default=20, ge=1, description="Jobs that may wait at the same time.")
    max_upload_mb: int = Field(default=200, ge=1, description="Size of an uploaded file.")
    max_unpacked_mb: int = Field(
        default=2_000, ge=1, description="Size of what an uploaded ZIP unpacks to."
    )
    max_files: int = Field(
        default=200_000, ge=1, description="Images that a folder or ZIP may hold."
    )
    max_megapixels: float = Field(
        default=16.0, gt=0, description="Size of one picture before it is scaled."
    )
    max_gigapixels: float = Field(
        default=40.0,
        gt=0,
        description="Size of all pictures of one import, before they are scaled.",
    )
    max_side: int = Field(
        default=128,
        ge=8,
        le=512,
        description="Height and width that pictures of a dataset may be scaled to, in px.",
    )
    max_parameters: int = Field(
        default=1_000,
        ge=1,
        description="Numbers of a model that is brought from outside, in millions.",
    )
    min_free_mb: int = Field(
        default=500, ge=0, description="Disk space that must stay free for a job to start."
    )
    data_mb: int = Field(
        default=4_000,
        ge=0,
        description="Images that a training keeps in memory, or on the GPU; larger sets are read as needed.",
    )
    cache_mb: int = Field(
        default=8_000,
        ge=1,
        description="Disk space of prepared datasets; what was not used for longest goes.",
    )
    memory_mb: int = Field(
        default=32,
        ge=0,
        description="Size of an embedded dataset that is made in memory where nothing may be written.",
    )
    models_mb: int = Field(
        default=1_000, ge=1, description="Memory that models shared between visitors may take."
    )

    @property
    def upload_mb(self) -> int:
        """Size of a file that a visitor may upload, in MB: on a view-only server at most 20."""
        return min(self.max_upload_mb, VISITOR_MB) if self.view_only else self.max_upload_mb

    @property
    def data(self) -> Path:
        """The folder of downloaded datasets."""
        return (self.data_dir or self.home / "data").absolute()

    @property
    def jobs(self) -> Path:
        """The folder of jobs and runs."""
        return self.home.absolute() / "jobs"

    @property
    def datasets(self) -> Path:
        """The folder of imported and derived datasets, by name."""
        return self.home.absolute() / "datasets"

    @property
    def cache(self) -> Path:
        """The folder of what can be computed again."""
        return self.home.absolute() / "cache"

    @property
    def worker_threads(self) -> int:
        """Threads of a worker: all cores but one, at least one."""
        counted = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if counted else os.cpu_count() or 2
        return self.threads or max(1, cores - 1)

    def allow_change(self, what: str) -> None:
        """Refuses a change on a view-only server.

        Raises:
            UserError: If the server is view-only.
        """
        if self.view_only:
            raise UserError(
                f"This server is for viewing only, so it cannot {what}. "
                "Run your own copy, or ask its owner to unset SIMULACRA_VIEW_ONLY."
            )

    def allow_disk(self, needed_mb: float = 0) -> None:
        """Refuses to write when the disk is nearly full.

        Raises:
            UserError: If less than ``min_free_mb`` would stay free.
        """
        folder = self.home.absolute()
        try:
            while not folder.exists():
                folder = folder.parent
            free = shutil.disk_usage(folder).free / 2**20
        except OSError:
            return  # its size is unknown; writing will say so
        if free - needed_mb < self.min_free_mb:
            raise UserError(
                f"The disk of {self.home} has {free:.0f} MB left, "
                f"and {self.min_free_mb + needed_mb:.0f} MB are needed. "
                "Delete old runs, or set SIMULACRA_HOME to a larger disk."
            )


@cache
def settings() -> Settings:
    """Reads the settings once.

    Raises:
        UserError: If a variable has a value that is not allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = "SIMULACRA_" + str(problem["loc"][0]).upper()
        raise UserError(
            f"{name} is not usable: {problem['msg']}, got {problem['input']!r}. Correct or unset it."
        ) from None
