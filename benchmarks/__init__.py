"""Timings that the book quotes, each against named peers in the same run on one machine."""
