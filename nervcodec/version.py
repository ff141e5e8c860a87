"""The program's version; the format's is in :mod:`nervcodec.bitstream.syntax`."""

__version__ = "0.1.0"
