"""Keras's models in, without Keras: files.py reads an archive, nodes.py its graph; layers.py and nets.py make a net."""
