"""``bench compare``: our methods, baselines and libraries on the same models, rows, queries and cores, in one run."""
