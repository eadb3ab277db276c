"""Orthonormal space-time transforms: fields to frequency planes and back."""
