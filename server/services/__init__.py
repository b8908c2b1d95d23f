"""One servicer a file: decode, await, encode."""
