"""Model, its input, summary, checkpoint and configuration."""
