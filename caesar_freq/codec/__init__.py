"""Quantiser, bounds, stream format and the choice of block modes."""
