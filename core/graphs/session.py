"""Runs a graph that was looked at and tried."""

from __future__ import annotations

from typing import Any

from core.catalog import optional
from core.graphs import NEEDS


def opened(file: bytes, threads: int) -> Any:
    """Opens a session of the library for a graph: quiet, on the processor, always the same answer.

    Raises:
        UserError: If the package is missing.
    """
    runtime = optional("onnxruntime", NEEDS)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = False  # which keeps the most that it ever needed
    return runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
