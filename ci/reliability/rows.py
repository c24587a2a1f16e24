"""Imports every module that registers rows."""

from reliability import files, malicious

__all__ = ["files", "malicious"]
