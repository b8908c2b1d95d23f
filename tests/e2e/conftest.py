"""The servers of the end-to-end tests."""

from server_fixtures import encoder_cache, pytest_runtest_makereport, serve, serve_on, serve_shared  # noqa: F401
