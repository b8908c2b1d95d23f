"""The servers of the end-to-end tests, and one for what callers may send."""

from server_fixtures import encoder_cache, pytest_runtest_makereport, serve, serve_on, serve_shared  # noqa: F401
from steady_server import next_request_is_right, server  # noqa: F401
