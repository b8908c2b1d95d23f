"""A small server in this process, and services over it."""

from catalog_case import catalog  # noqa: F401
from small_server import server  # noqa: F401
from worker_services import services  # noqa: F401
