"""Parts of the rule ``report``: records in, tables, plots and one HTML page out."""
