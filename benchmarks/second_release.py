"""What a push of a second release sends to the Hub, by how its files hold the images.

    python benchmarks/second_release.py DIR

DIR is a finished data set. The rows of its train split are written anew, in one file, as

- *as it is*: images uncompressed, which is how `synthfair generate` writes them (plans' `parquet_version` 2);
- *compressed*: by Snappy, pyarrow's default and `parquet_version` 1;
- with *content-defined chunking* of pages, either way (`use_content_defined_chunking` of pyarrow),

and as the second releases below, each uploaded by hf_xet to a store on this disk that has the first: what comes to lie
there is what the Hub would be sent. hf_xet divides files by their content itself, and sends short runs again.

- *repaired*: one row in a hundred has another image;
- *a column more*: a score of every row;
- *a subject more*: one row before all others.
"""

import argparse
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synthfair_hf.generate.store import PIXELS, ROWS_PER_GROUP, leaves, read_plan
from synthfair_hf.records import Record, library_versions

WAYS = {
    "as it is": (False, False),
    "as it is, chunked": (False, True),
    "compressed": (True, False),
    "compressed, chunked": (True, True),
}


def releases(table: pa.Table) -> dict[str, pa.Table]:
    """The first release, and the second ones."""
    images = table.column("image").to_pylist()
    rows = len(images)
    # another image of the set, a third of it away
    repaired = [images[(row + rows // 3) % rows] if row % 100 == 50 else one for row, one in enumerate(images)]
    place = table.schema.get_field_index("image")
    column = pa.array(repaired, type=table.schema.field("image").type)
    return {
        "first": table,
        "repaired": table.set_column(place, table.schema.field("image"), column),
        "a column more": table.append_column("score", pa.array([row % 97 / 97 for row in range(rows)])),
        "a subject more": pa.concat_tables([table.slice(rows // 2, 1), table]),
    }


def written(table: pa.Table, path: Path, compressed: bool, chunked: bool) -> Path:
    """The file, written as one of WAYS."""
    compression = {name: "NONE" if name == PIXELS and not compressed else "SNAPPY" for name in leaves(table.schema)}
    with pq.ParquetWriter(
        path,
        table.schema,
        write_page_checksum=True,
        write_page_index=True,
        compression=compression,
        use_content_defined_chunking=chunked,
    ) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    return path


def sent(files: list[Path], store: Path) -> list[int]:
    """Bytes that each file adds to a store which has those before it."""
    from hf_xet import XetSession

    os.environ["HF_XET_CACHE"] = str(store / "cache")
    content, found, before = store / "content", [], 0
    content.mkdir(parents=True)
    for file in files:
        commit = XetSession().new_upload_commit(endpoint=f"local://{content}")
        commit.start_upload_file(str(file))
        commit.wait_to_finish()
        # blocks of chunks, without the store's own books of them
        after = sum(one.stat().st_size for one in content.rglob("xorbs/default.*") if one.suffix != ".tagset")
        found.append(after - before)
        before = after
    return found


def page(record: Record) -> str:
    """The page of a record."""
    shares = {
        (way, release): one["sent"] / one["first"]
        for way, found in record.measured.items()
        for release, one in found.items()
    }
    ways, seconds = list(record.measured), list(record.measured["as it is"])
    lines = [
        "| "
        + " | ".join([way, *(f"{100 * shares[way, one]:.0f} %" for one in seconds), f"{size(record, way):.2f}"])
        + " |"
        for way in ways
    ]
    table = "\n".join(lines)
    return f"""# What a push of a second release sends

By `python benchmarks/second_release.py DIR`, of the {record.counts["rows"]:,} train rows of data set
`{record.inputs["plan"]}`, images of {record.settings["resolution"]} pixels: bytes that hf_xet sends of a second
release to a store that has the first, as a share of the first; one push each, no sampling, so there is no interval.
hf_xet divides files by their content itself, and sends what is shared in short runs only again: so one image in a
hundred costs far more than itself.

| images in the file | {" | ".join(seconds)} | MB |
|---|{"---:|" * (len(seconds) + 1)}
{table}

`synthfair generate` writes them as they are: PNG cannot be compressed much further, and compressed by pages the same
images are other bytes as soon as a row before them changes. Content-defined chunking of pages (`chunked`) saves
{"nothing" if shares["as it is, chunked", seconds[-1]] >= shares["as it is", seconds[-1]] else "more"} beyond that.
"""


def size(record: Record, way: str) -> float:
    """Megabytes of the first release."""
    return max(one["bytes"] for one in record.measured[way].values()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--output_dir", type=Path, default=Path("docs/second_release"))
    settings = parser.parse_args()
    table = pa.concat_tables(
        pq.read_table(one) for one in sorted((settings.directory / "data").rglob("train*.parquet"))
    )
    made, plan = releases(table), read_plan(settings.directory)
    measured: dict[str, dict[str, dict[str, int]]] = {way: {} for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        for way, (compressed, chunked) in WAYS.items():
            directory = Path(scratch) / way.replace(" ", "_").replace(",", "")
            directory.mkdir()
            files = {
                name: written(one, directory / f"{place}.parquet", compressed, chunked)
                for place, (name, one) in enumerate(made.items())
            }
            for name in list(made)[1:]:
                store = directory / "store"
                first, second = sent([files["first"], files[name]], store)
                shutil.rmtree(store)
                measured[way][name] = {"bytes": files["first"].stat().st_size, "first": first, "sent": second}
    record = Record(
        stage="second_release",
        inputs={"plan": plan.fingerprint},
        settings={"resolution": plan.resolution},
        versions={**library_versions(), "hf-xet": version("hf-xet")},
        counts={"rows": table.num_rows},
        measured=measured,
    )
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(settings.output_dir / "second_release.json")
    (settings.output_dir / "README.md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
