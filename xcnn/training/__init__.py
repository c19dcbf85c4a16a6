"""Training as values: losses, optimizers, the step, the loop and what watches it. It knows no Model."""
