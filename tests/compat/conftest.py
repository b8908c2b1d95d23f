"""The servers of the end-to-end tests, for other languages."""

from server_fixtures import encoder_cache, pytest_runtest_makereport, serve, serve_shared  # noqa: F401
