"""The servers of the end-to-end tests, for the examples of the documentation."""

from server_fixtures import encoder_cache, pytest_runtest_makereport, serve_shared  # noqa: F401
