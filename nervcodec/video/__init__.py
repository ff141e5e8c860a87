"""Video in and out through PyAV: nothing outside this package and ``compare`` imports ``av``.

:mod:`.reader` turns a file into RGB frames with their times, :mod:`.writer` does the reverse,
and :mod:`.passthrough` carries the audio from one to the other without re-encoding it.
"""

from __future__ import annotations
