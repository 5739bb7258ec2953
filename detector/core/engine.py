"""A session of ONNX Runtime over a serialized graph: the only place that sets its options."""

from __future__ import annotations

from typing import Any

import onnxruntime


def open_session(graph: bytes, *, threads: int) -> Any:
    """An onnxruntime.InferenceSession on threads CPU threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads must sleep: the machine belongs to others too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
