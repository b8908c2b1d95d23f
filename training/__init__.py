"""Data sets, splits, metrics and baselines: how good a ranking is, beside what is simple."""
