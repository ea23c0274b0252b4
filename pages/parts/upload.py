"""What parts that take files share: what was sent, and letting go of it."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx


def forget(key: str) -> None:
    """Forgets the files of an uploader, which Streamlit would keep for as long as the visitor stays."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        sent = st.session_state.get(key) or []
        for file in sent if isinstance(sent, list) else [sent]:
            context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)
