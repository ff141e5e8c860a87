"""The ``hfsv`` command: a thin skin of click over the library, one file a command."""
