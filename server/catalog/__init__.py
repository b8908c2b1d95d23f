"""The catalogue: its rows, on disk and as a worker sees them, and their popularity."""
