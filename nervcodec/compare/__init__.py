"""Other codecs measured as ours is: :mod:`.anchors` runs them, :mod:`nervcodec.metrics` judges.

Beside :mod:`nervcodec.video`, this is the only package that imports ``av``.
"""

from __future__ import annotations
