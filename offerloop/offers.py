"""``offerloop offers import FILE`` and ``offerloop offers export``: the catalogue of a running service as a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

ADDRESS = "http://127.0.0.1:8080"
# A full file takes the service some seconds.
WAIT_SECONDS = 300.0
MEDIA_TYPES = {"csv": "text/csv", "json": "application/json"}
BAD_FILE = frozenset({400, 413, 415})


def main(arguments: Sequence[str] | None = None) -> int:
    """Import or export; 0 when it is done, 2 when the file is bad and nothing was imported, 1 for other trouble."""
    words = parser()
    chosen = words.parse_args(arguments)
    headers = {"authorization": f"Bearer {chosen.key}"} if chosen.key else {}
    try:
        with httpx.Client(base_url=chosen.url, headers=headers, timeout=WAIT_SECONDS) as client:
            return int(chosen.run(client, chosen))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        print(f"{chosen.url}: {error or type(error).__name__}", file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    words = argparse.ArgumentParser(prog="offerloop offers", description=__doc__)
    commands = words.add_subparsers(metavar="COMMAND", required=True)
    importing = commands.add_parser("import", help="create and replace offers from a file, all of it or nothing")
    importing.add_argument("file", type=Path, metavar="FILE", help="CSV or JSON, as an export writes it")
    importing.add_argument("--format", choices=MEDIA_TYPES, help="what it is (default: as its name ends)")
    importing.add_argument("--dry-run", action="store_true", help="check it and say what would change; write nothing")
    importing.set_defaults(run=_import)
    exporting = commands.add_parser("export", help="write every offer to a file")
    exporting.add_argument("--format", choices=MEDIA_TYPES, help="what to write (default: as FILE ends, else csv)")
    exporting.add_argument("--out", type=Path, metavar="FILE", help="where to (default: standard output)")
    exporting.set_defaults(run=_export)
    for command in (importing, exporting):
        command.add_argument("--url", default=ADDRESS, help="address of the service (default: %(default)s)")
        command.add_argument("--key", help="an API key, an admin's for an import, when the service has keys")
    return words


def _import(client: httpx.Client, chosen: argparse.Namespace) -> int:
    kind = chosen.format or _kind_of(chosen.file)
    if kind is None:
        print(f"{chosen.file}: ends in neither .csv nor .json; say which with --format", file=sys.stderr)
        return 2
    answer = client.post(
        "/v1/offers/import", content=chosen.file.read_bytes(), params={"dry_run": chosen.dry_run},
        headers={"content-type": MEDIA_TYPES[kind]},
    )  # fmt: skip
    if not answer.is_success:
        return _refused(answer, str(chosen.file))
    found = answer.json()
    would = "would be " if chosen.dry_run else ""
    print(
        f"{found['imported']} offers: {found['created']} {would}created, {found['updated']} {would}updated, "
        f"{found['unchanged']} unchanged"
    )
    return 0


def _export(client: httpx.Client, chosen: argparse.Namespace) -> int:
    kind = chosen.format or (chosen.out and _kind_of(chosen.out)) or "csv"
    answer = client.get("/v1/offers/export", params={"format": kind})
    if not answer.is_success:
        return _refused(answer, chosen.url)
    if chosen.out is None:
        sys.stdout.buffer.write(answer.content)
        sys.stdout.buffer.flush()
    else:
        chosen.out.write_bytes(answer.content)
    return 0


def _refused(answer: httpx.Response, subject: str) -> int:
    """Say why; rows by their number."""
    problem = _problem(answer)
    errors = problem.get("errors", [])
    for error in errors:
        place = error["field"].removeprefix("rows.").replace(".", ": ", 1)
        print(f"{subject}:{place}: {error['message']}, got {error['value']!r}", file=sys.stderr)
    # The detail repeats the first error, which stands above.
    detail = str(problem.get("detail", answer.text[:500]))
    print(f"{subject}: {detail.partition('; the first is')[0] if errors else detail}", file=sys.stderr)
    return 2 if answer.status_code in BAD_FILE else 1


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _kind_of(path: Path) -> str | None:
    kind = path.suffix.removeprefix(".").lower()
    return kind if kind in MEDIA_TYPES else None


if __name__ == "__main__":
    sys.exit(main())
