"""Make and check datasets of layered scenes: `import`, `check` or `sheet`.

import: convert a folder of PSD, OpenRaster or layers.json files, the parquet files of MLCID, or others. Scenes that cannot
be read are set aside with the reason. An import that was stopped goes on when it is run again.
check: read everything and say what is wrong with which scene. sheet: write a contact sheet as PNG.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from layerdiff_core.datasets.dataset import Dataset, sheet
from layerdiff_core.datasets.importing import REJECTED, Item, Report, import_scenes
from layerdiff_core.datasets.layered_files import layered_files
from layerdiff_core.datasets.mlcid import Pictures, mlcid
from layerdiff_core.datasets.tables import MAPS, FieldMap, tables
from layerdiff_core.export import save_png, to_rgba
from layerdiff_core.whole import whole

from .arguments import a_count

TELL_EVERY = 100
SHOWN = 30


def add(options: argparse.Namespace) -> int:
    """Import scenes. Returns the exit status."""
    started = time.monotonic()

    def step(report: Report) -> None:
        seen = report.added + report.present + len(report.rejected)
        if seen % TELL_EVERY == 0:
            rate = report.added / (time.monotonic() - started)
            print(f"{seen} scenes: {report.added} added, {report.present} there already, {len(report.rejected)} set aside; "
                  f"{rate:.1f} per second", flush=True)

    report = import_scenes(items(options), Path(options.out), step)
    print(f"{report.added} added, {report.present} there already, {len(report.rejected)} set aside.")
    for what, reason in list(report.rejected.items())[:SHOWN]:
        print(f"  {what}: {reason}")
    if report.rejected:
        print(f"All reasons are in {Path(options.out) / REJECTED}.")
    return 0


def items(options: argparse.Namespace) -> Iterator[Item]:
    """The scenes to import."""
    source = Path(options.source)
    if options.kind == "mlcid":
        return mlcid(source, Pictures(Path(options.images or source)))
    if options.kind == "layers":
        return layered_files(source, options.licence)
    return tables(source, FieldMap.read(Path(options.fields)) if options.kind == "table" else MAPS[options.kind], options.licence)


def check(options: argparse.Namespace) -> int:
    """Print what is wrong, and statistics. Returns 1 if a scene cannot be used."""
    dataset = Dataset(Path(options.dataset))
    faults = dataset.check()
    for fault in faults:
        print(f"{'remark' if fault.usable else 'FAULT'}: {fault}")
    print(json.dumps(dataset.statistics(), indent=1, ensure_ascii=False))
    return int(any(not fault.usable for fault in faults))


def draw(options: argparse.Namespace) -> int:
    """Write a contact sheet of a page. Returns the exit status."""
    samples, faults = Dataset(Path(options.dataset)).page(options.page, options.size)
    for fault in faults:
        print(f"FAULT: {fault}")
    if not samples:
        print(f"There is no scene on page {options.page} that can be read.")
        return 1
    picture = sheet(samples)
    with whole(Path(options.out)) as part:
        save_png(part, to_rgba(picture, picture.new_ones(picture.shape[:3])), {})
    return 0


def main(arguments: list[str]) -> int:
    """Run one of the subcommands. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("import", help="add scenes from other files to a dataset")
    adding.add_argument("kind", choices=["layers", "mlcid", *MAPS, "table"], help="layers: a folder of PSD, OpenRaster or "
                        "layers.json files. table: parquet files with the fields named in --fields")
    adding.add_argument("source", help="a folder, or a parquet file")
    adding.add_argument("out", help="the dataset's folder, which is created if needed")
    adding.add_argument("--images", help="mlcid: folder of the fetched images, default the source")
    adding.add_argument("--fields", help="table: JSON file with the map of fields, see layerdiff_core/datasets/tables.py")
    adding.add_argument("--licence", default="", help="licence of the scenes, if the format does not say")
    checking = commands.add_parser("check", help="say what is wrong with which scene, and print statistics")
    checking.add_argument("dataset", help="the dataset's folder")
    drawing = commands.add_parser("sheet", help="write a contact sheet, one row per scene")
    drawing.add_argument("dataset", help="the dataset's folder")
    drawing.add_argument("out", help="the PNG to write")
    drawing.add_argument("--page", type=a_count(0), default=0, help="number of the page, from 0")
    drawing.add_argument("--size", type=a_count(), default=16, help="scenes per page")
    options = parser.parse_args(arguments)
    if options.command == "import" and (options.kind == "table") != bool(options.fields):
        parser.error("Enter --fields for the kind table, and only for it.")
    try:
        return {"import": add, "check": check, "sheet": draw}[options.command](options)
    except (ValueError, RuntimeError) as error:
        print(error)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
