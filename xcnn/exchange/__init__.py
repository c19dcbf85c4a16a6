"""Models in and out: a package for each format."""
