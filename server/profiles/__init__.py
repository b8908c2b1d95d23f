"""Profiles: the merging set as it is folded, stored and read, and its pooling weights."""
