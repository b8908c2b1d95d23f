"""Servers for the benchmarks: a made-up one, and those of the end-to-end tests."""

from fake_ranking import fake_server  # noqa: F401
from server_fixtures import encoder_cache, pytest_runtest_makereport, serve, serve_shared  # noqa: F401
