"""xcnn's version, here alone: packaging reads it from this file, and programs ask no installed package's metadata."""

__version__ = "0.1.0"
