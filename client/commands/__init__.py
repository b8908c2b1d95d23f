"""The client's commands, one a file. They import grpc, NumPy and rich when they run."""
