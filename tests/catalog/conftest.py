"""A small server in this process."""

from small_server import server  # noqa: F401
