"""The command line: parse, call, print. Commands import what they need when they run."""

from scaling.cli.app import main

__all__ = ["main"]
