"""The server: log, state, encoder, engine and services."""
