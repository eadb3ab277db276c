"""SLURM: what jobs ask for, what a cluster offers, and tidying up after a crash of Snakemake."""
