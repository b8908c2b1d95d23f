"""Options that the commands on models have in common."""

from __future__ import annotations

from pathlib import Path

import click

model = click.option(
    "--model", default="", help="Model folder.  [default: the all-MiniLM-L6-v2 package]"
)
data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default="rankstream-data",
    show_default=True,
    help="Where converted models are kept, as serve keeps them.",
)
threads = click.option("--threads", default=2, show_default=True, help="Threads of one inference.")
