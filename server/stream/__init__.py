"""The log: reading, folding, writing and watching it."""
