"""Types, arrays and the mathematics of shapes: what everything else stands on. It knows no layer."""
