"""`python -m lis.store ls | du | verify | prune`: what a store holds, how much, whether it is whole, what may go."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lis.plain import print_anywhere
from lis.progress import Progress, say
from lis.store.artifacts import DRAFTS, LOCKS, SET_ASIDE, Damaged
from lis.store.inventory import Entry, Inventory, measure, runs
from lis.store.pruning import Removal, Rules, removals, remove

_ABOUT = """\
What the store of `python -m lis.run` holds. An artifact is named by its stage and the first digits of its key.
ls       what each artifact was made from and when, and what uses it
du       how much room each stage takes
verify   whether every file is what was written
prune    removes what no run uses; without --yes it only says what would go"""
_LINES, _WIDTH = 3, 48
"""Of a cell in a table of several artifacts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit code: 0; 1 where something is damaged or cannot be removed; 2 for what cannot be asked.
    """
    print_anywhere()
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ValueError as error:
        say(str(error), "bold red")
        return 2
    except BrokenPipeError:  # `… | head`
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m lis.store", description=_ABOUT, formatter_class=formatter)
    commands = parser.add_subparsers(required=True, metavar="{ls,du,verify,prune}")
    for command in (ls, du, verify, prune):
        text = (command.__doc__ or "").partition("\n")[0]
        sub = commands.add_parser(command.__name__, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument("--store", type=Path, default=Path("outputs/store"), help="its folder (default: %(default)s)")
        sub.add_argument("--json", action="store_true", help="print JSON")
        if command in (ls, prune):
            sub.add_argument(
                "--runs", type=Path, action="append", help="folder of runs; may be repeated (default: outputs)"
            )
        if command is ls:
            sub.add_argument("name", nargs="?", help="a stage, or the first digits of a key; else all but shards")
        if command is prune:
            _add_rules(sub)
    return parser


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="remove it")
    parser.add_argument(
        "--older", type=_days, default=1.0, metavar="DAYS", help="what is younger stays (default: %(default)g)"
    )
    parser.add_argument("--shards", action="store_true", help="also shards, which only a larger run would need")
    parser.add_argument("--all", action="store_true", help="also what runs name: all that is old enough")


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number of days, 0 or more")
    return days


def ls(options: argparse.Namespace) -> int:
    """List artifacts: made when, from what, and what uses them."""
    inventory = Inventory(options.store)
    entries = inventory.select(options.name)
    users = inventory.users()
    of_runs = runs(_run_folders(options), options.store)
    facts = [_facts(inventory, entry, users.get(entry.key, []), of_runs) for entry in entries]
    shards = Counter(entry.stage for entry in inventory.entries if entry.is_shard) if options.name is None else {}
    if options.json:
        _print_json({"artifacts": facts, "shards": dict(shards)})
        return 0
    columns = ("stage", "key", "made", "seconds", "device", "size", "files", "made from", "settings", "used by")
    rows = [_row(fact, inventory.digits, _differing(fact, facts)) for fact in facts]
    if len(rows) > 1:
        rows = [list(map(_shortened, row)) for row in rows]
    _print_table(columns, rows, right=("seconds", "size", "files"))
    if shards:
        _print_line("and shards: " + ", ".join(f"{count:,} {stage}" for stage, count in shards.items()))
    return 0


def _facts(inventory: Inventory, entry: Entry, users: Iterable[Entry], of_runs: dict[Path, set[str]]) -> dict[str, Any]:
    """What is told of an artifact; what its manifest would say is None where that is damaged."""
    manifest, by_key = entry.manifest, inventory.by_key
    return {
        "stage": entry.stage,
        "key": entry.key,
        "path": str(entry.path),
        "created": manifest.get("created"),
        "seconds": manifest.get("seconds"),
        "device": manifest.get("device"),
        "size": entry.size,
        "files": len(manifest.get("files", ())),
        "inputs": [{"stage": by_key[key].stage if key in by_key else None, "key": key} for key in entry.inputs],
        "settings": _flat(manifest.get("recipe", {}).get("config", {})),
        "users": [{"stage": user.stage, "key": user.key} for user in users],
        "runs": [str(folder) for folder, keys in of_runs.items() if entry.key in keys],
    }


def _row(fact: dict[str, Any], digits: int, settings: dict[str, Any]) -> list[str]:
    """As a table shows it; users of one stage are counted."""
    inputs = [f"{one['stage'] or 'gone:'} {one['key'][:digits]}" for one in fact["inputs"]]
    counts = Counter(user["stage"] for user in fact["users"])
    keys = {user["stage"]: user["key"][:digits] for user in fact["users"]}
    users = [f"{stage} {keys[stage] if count == 1 else f'× {count:,}'}" for stage, count in counts.items()]
    return [
        fact["stage"],
        fact["key"][:digits],
        (fact["created"] or "damaged")[:16].replace("T", " "),
        "" if fact["seconds"] is None else f"{fact['seconds']:,.1f}",
        fact["device"] or "",
        _size(fact["size"]),
        str(fact["files"]),
        "\n".join(inputs),
        "\n".join(f"{name}={value}" for name, value in settings.items()),
        "\n".join([*fact["runs"], *users]),
    ]


def _differing(fact: dict[str, Any], facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The settings of an artifact in which those of its stage differ; all where none does."""
    settings = fact["settings"]
    others = [other["settings"] for other in facts if other["stage"] == fact["stage"]]
    varied = {name: value for name, value in settings.items() if any(other.get(name) != value for other in others)}
    return varied or settings


def _shortened(cell: str) -> str:
    lines = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…" for line in cell.split("\n")]
    return "\n".join(lines if len(lines) <= _LINES else [*lines[: _LINES - 1], f"… and {len(lines) - _LINES + 1} more"])


def du(options: argparse.Namespace) -> int:
    """Show how much room each stage takes."""
    inventory = Inventory(options.store)
    rows = [_usage(inventory, stage) for stage in sorted({entry.stage for entry in inventory.entries})]
    for name in (DRAFTS, SET_ASIDE, LOCKS):
        size, inodes = measure(options.store / name)
        rows.append({"stage": f"({name})", "loose": None, "packed": None, "bytes": size, "inodes": inodes})
    total = {name: sum(row[name] or 0 for row in rows) for name in ("loose", "packed", "bytes", "inodes")}
    if options.json:
        _print_json({"stages": rows, "total": total})
        return 0
    table = [_usage_row(row) for row in [*rows, {"stage": "total"} | total]]
    _print_table(("stage", "loose", "packed", "size", "inodes"), table, right=("loose", "packed", "size", "inodes"))
    return 0


def _usage(inventory: Inventory, stage: str) -> dict[str, Any]:
    entries = [entry for entry in inventory.entries if entry.stage == stage]
    loose = [entry for entry in entries if entry.pack is None]
    files = {entry.pack.path for entry in entries if entry.pack}
    sizes = [(entry.size, entry.inodes) for entry in loose] + [measure(file) for file in files]
    return {
        "stage": stage,
        "loose": len(loose),
        "packed": len(entries) - len(loose),
        "bytes": sum(size for size, _ in sizes),
        "inodes": sum(inodes for _, inodes in sizes),
    }


def _usage_row(row: dict[str, Any]) -> list[str]:
    counts = ["" if row[name] is None else f"{row[name]:,}" for name in ("loose", "packed")]
    return [row["stage"], *counts, _size(row["bytes"]), f"{row['inodes']:,}"]


def verify(options: argparse.Namespace) -> int:
    """Read everything, and list what is not what was written."""
    inventory = Inventory(options.store)
    damaged = dict(inventory.damaged)
    for entry in Progress(tell=say).track(inventory.entries, label="verified"):
        try:
            entry.verify()
        except (Damaged, OSError) as damage:
            if (entry.pack.path if entry.pack else entry.path).exists():  # and not packed or removed meanwhile
                damaged[entry.path] = str(damage)
    if options.json:
        _print_json(
            {"artifacts": len(inventory.entries), "damaged": {str(path): text for path, text in damaged.items()}}
        )
    else:
        for text in damaged.values():
            _print_line(text)
        _print_line(f"{len(inventory.entries):,} artifacts verified, {len(damaged):,} damaged")
    return int(bool(damaged))


def prune(options: argparse.Namespace) -> int:
    """Say what no run uses, or remove it (--yes)."""
    inventory = Inventory(options.store)
    used = None if options.all else set[str]().union(*_required_runs(options).values())
    proposed = removals(inventory, Rules(used, options.older, options.shards))
    refused = remove(options.store, proposed) if options.yes else []
    if options.json:
        listed = [{**vars(removal), "path": str(removal.path)} for removal in proposed]
        _print_json({"removed": options.yes, "removals": listed, "refused": list(map(str, refused))})
    else:
        _tell(proposed, options.yes)
    return int(bool(refused))


def _required_runs(options: argparse.Namespace) -> dict[Path, set[str]]:
    """The runs that use the store.

    Raises:
        ValueError: there are none, so that nothing would stay.
    """
    folders = _run_folders(options)
    if not (of_runs := runs(folders, options.store)):
        raise ValueError(
            f"no run in {', '.join(map(str, folders))}, so that all would go: name the folder of the runs that use "
            f"{options.store} with --runs, or remove what they use too with --all"
        )
    return of_runs


def _tell(proposed: Sequence[Removal], removed: bool) -> None:
    groups: dict[tuple[str, str], list[Removal]] = {}
    for removal in proposed:
        groups.setdefault((removal.stage, removal.reason), []).append(removal)
    rows = [
        [stage, reason, f"{sum(one.artifacts for one in group):,}", *_sums(group), _names(group)]
        for (stage, reason), group in sorted(groups.items())
    ]
    columns = ("stage", "why", "number", "size", "inodes", "which")
    if rows:
        _print_table(columns, rows, right=("number", "size", "inodes"))
    if not proposed:
        _print_line("there is nothing to remove")
        return
    size, inodes = _sums(proposed)
    done = "removed" if removed else "would go; --yes removes them"
    _print_line(f"{sum(one.artifacts for one in proposed):,} of {size} in {inodes} files and folders {done}")


def _sums(proposed: Sequence[Removal]) -> tuple[str, str]:
    return _size(sum(one.size for one in proposed)), f"{sum(one.inodes for one in proposed):,}"


def _names(group: Sequence[Removal]) -> str:
    names = [one.path.name[:8] for one in group[:3]]
    return ", ".join(names + ["…"] * (len(group) > len(names)))


def _run_folders(options: argparse.Namespace) -> list[Path]:
    return options.runs or [Path("outputs")]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted names."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def _size(count: int) -> str:
    """Bytes as a person reads them.

    Example:
        >>> _size(999), _size(1_200_000)
        ('999 B', '1.2 MB')
    """
    value, units = float(count), iter(("B", "kB", "MB", "GB"))
    unit = next(units)
    while value >= 1000 and unit != "GB":
        value, unit = value / 1000, next(units)
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def _console() -> Console:
    """As wide as what it prints where that proposed into a file or another program."""
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, emoji=False, width=1000)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _print_line(text: str) -> None:
    _console().print(text, soft_wrap=True)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
