"""Frames on a CPU by kernels of our own, where they could be compiled: faster than torch's.

:mod:`nervcodec.fast.network` evaluates a network with them; what it cannot, torch does.
"""
