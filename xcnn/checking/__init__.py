"""Checks of layers, backends and models against float64."""
