"""Timings of training steps and of single correlations, also beside other libraries': what `xcnn bench` prints."""
