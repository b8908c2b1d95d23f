"""``rankstream embed`` and ``tokenize``: what the encoder makes of texts."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import click

from rankstream.client.commands.choices import example
from rankstream.client.commands.session import Session, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankstream.client.answers import Embeddings

_STREAM_BATCH = 64
_SHOWN_NUMBERS = 6
_prompt_option = click.option(
    "--prompt", "prompt_name", default="", metavar="NAME",
    help="The model's prompt to put before each text; 'rankstream info' lists them.",
)  # fmt: skip


@click.command(
    epilog=example('embed "warm socks" --json', "embed --file titles.txt --json > vectors.jsonl")
)
@click.argument("texts", nargs=-1)
@click.option(
    "--file", "path", type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Embed each line of this file, over a stream; - for standard input.",
)  # fmt: skip
@_prompt_option
@json_option
@click.pass_obj
def embed(
    session: Session, texts: tuple[str, ...], path: str | None, prompt_name: str, as_json: bool
) -> None:
    """Show the embeddings of TEXTS; with --json, whole, one object a line."""
    if bool(texts) == (path is not None):
        message = "give texts or --file, one of them"
        raise click.UsageError(message)
    from rankstream.client.commands.output import cell, print_json, show, table

    rows = table("", "text", "tokens", "norm", "begins with", right=("tokens", "norm"))
    for text, entry in _embedded(session, list(texts), path, prompt_name):
        if as_json:
            print_json({"text": text, **entry})
            continue
        vector = entry["vector"]
        norm = f"{sum(v * v for v in vector) ** 0.5:.3f}"
        begin = entry["error"] or " ".join(f"{v:+.3f}" for v in vector[:_SHOWN_NUMBERS])
        cut = " (cut)" if entry["truncated"] else ""
        rows.add_row(cell(text[:60]), f"{entry['tokens']}{cut}", norm, cell(str(begin)))
    if not as_json:
        show(rows)


def _embedded(
    session: Session, texts: list[str], path: str | None, prompt: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each text and what became of it."""
    with session.client() as client:
        if path is None:
            yield from _entries(texts, client.embed(texts, prompt_name=prompt))
            return
        # Batches that wait for their answer.
        waiting: deque[list[str]] = deque()
        batches = _remembered(_lines(path), waiting)
        for answer in client.embed_stream(batches, prompt_name=prompt):
            yield from _entries(waiting.popleft(), answer)


def _remembered(lines: Iterator[str], waiting: deque[list[str]]) -> Iterator[list[str]]:
    from rankstream.client.commands.imports import chunks

    for batch in chunks(lines, _STREAM_BATCH):
        waiting.append(batch)
        yield batch


def _entries(texts: list[str], answer: Embeddings) -> Iterator[tuple[str, dict[str, Any]]]:
    for text, result, vector in zip(texts, answer.results, answer.vectors, strict=True):
        error = result.error.message if result.error else None
        counts = {"tokens": result.tokens, "truncated": result.truncated}
        yield text, {**counts, "error": error, "vector": vector.tolist()}


def _lines(path: str) -> Iterator[str]:
    with click.open_file(path, encoding="utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                yield line.rstrip("\r\n")


@click.command(epilog=example('tokenize "warm socks"'))
@click.argument("texts", nargs=-1, required=True)
@_prompt_option
@json_option
@click.pass_obj
def tokenize(session: Session, texts: tuple[str, ...], prompt_name: str, as_json: bool) -> None:
    """Show what the model reads of TEXTS; with --json, one object a line."""
    from rankstream.client.commands.output import cell, print_json, show, table

    with session.client() as client:
        found = client.tokenize(texts, prompt_name=prompt_name)
    if as_json:
        for text, entry in zip(texts, found, strict=True):
            print_json({"text": text, "found": entry})
        return
    rows = table("", "text", "count", "tokens", right=("count",))
    for text, entry in zip(texts, found, strict=True):
        said = entry.error.message if entry.error else " ".join(entry.tokens)
        cut = " (cut)" if entry.truncated else ""
        rows.add_row(cell(text[:60]), f"{len(entry.token_ids)}{cut}", cell(said))
    show(rows)
