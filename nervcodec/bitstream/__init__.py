"""Bytes and integers of the ``.hfsv`` format; neither torch nor PyAV is imported below here."""
