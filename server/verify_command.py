"""``rankstream verify``: whether every backend and precision gives the model's vectors."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from rankstream.server import encoder_options
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.verify import Verdict
from rankstream.server.encoder.verify import verify as verdicts_of
from rankstream.server.text_file import read_texts


@click.command(
    epilog="\b\nExample:\n  rankstream verify --model minilm-int8 --catalogue titles.txt"
)
@click.option(
    "--catalogue",
    type=click.Path(path_type=Path),
    help="Real texts, one a line (.gz too): adds their cosines and top-10 overlap.",
)
@encoder_options.settings
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def verify(settings: EncoderSettings, catalogue: Path | None, as_json: bool) -> None:
    """Compare every backend and precision that is installed with torch in float32.

    Golden texts (short, long, empty, emoji, right-to-left, Chinese, control characters) and those
    of a catalogue go through each. Exits with 1 where one is not near enough.
    """
    console = Console(stderr=True)
    with encoder_options.one_line_errors():
        texts = read_texts("catalogue", catalogue) if catalogue else []
        with console.status("loading") as status:
            verdicts = list(verdicts_of(settings, texts, status.update))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts]))
    else:
        Console(highlight=False).print(_table(verdicts, len(texts)))
    sys.exit(any(verdict.problem for verdict in verdicts))


def _table(verdicts: list[Verdict], texts: int) -> Table:
    made = Table(box=None, title=None)
    made.add_column("backend")
    made.add_column("precision")
    for heading in ("min cosine", "max difference", "alone/batch", "min", "mean", "top-10"):
        made.add_column(heading, justify="right")
    made.add_column("verdict", overflow="fold")
    for verdict in verdicts:
        made.add_row(verdict.backend, verdict.precision, *_cells(verdict), verdict.problem or "ok")
    if texts:
        made.caption = f"min, mean and top-10: of the catalogue's {texts} texts"
    return made


def _cells(verdict: Verdict) -> list[str]:
    golden, whole = verdict.golden, verdict.catalogue
    if golden is None:
        return ["-"] * 6
    cells = [f"{golden.min_cosine:.5f}", f"{golden.max_difference:.1e}"]
    cells.append(f"{verdict.alone_cosine:.6f}")
    if whole is None:
        return [*cells, "-", "-", "-"]
    overlap = "-" if whole.top_10_overlap is None else f"{whole.top_10_overlap:.3f}"
    return [*cells, f"{whole.min_cosine:.5f}", f"{whole.mean_cosine:.5f}", overlap]
