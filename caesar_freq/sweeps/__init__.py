"""Parts of ``caesar-freq sweep``: what is tried, where it runs, what came out."""
