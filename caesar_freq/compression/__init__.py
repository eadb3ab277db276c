"""Compression of large data sets as many jobs: survey, ranges, parts, join, verification, table."""
