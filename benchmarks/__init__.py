"""Measurements of rate, quality, speed and memory; each prints JSON."""
