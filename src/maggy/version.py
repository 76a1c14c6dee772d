"""The version of maggy: alone, so that the wire can compare it and import nothing else."""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "2.0.0.dev0"
