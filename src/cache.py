"""Show what runs keep for all clones on this machine, and bound it: `python src/cache.py --limit 10GB`.

The cache holds decoded pixels of large photographs and outputs of frozen layers. It changes no result: what is removed
is computed again when it is wanted. THAW_CACHE names its folder, THAW_CACHE_LIMIT the size that runs keep to. What else
is in the folder stays: networks for predictions, their features, and what Open Images was downloaded from.
"""

import argparse
import time

from thaw.core import cache
from thaw.core.errors import run
from thaw.core.progress import duration
from thaw.core.words import plural


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Show the decoded pixels and outputs that runs keep on this machine for all clones; bound them.",
        epilog="example: python src/cache.py --limit 10GB",
    )
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--clear", action="store_true", help="remove all of them")
    bound.add_argument("--limit", metavar="SIZE", help="remove what was not used for longest, down to a size")
    options = parser.parse_args()
    kept = cache.named_cache()
    if options.clear or options.limit is not None:
        removed = kept.shrink(0 if options.clear else cache.size_of(options.limit, "--limit"))
        print(f"cache: {plural(removed, 'file')} removed")
    print(f"cache: {kept.folder}, of up to {cache.size_text(kept.limit)} ({cache.LIMIT})")
    for kind in cache.KINDS:
        entries = kept.entries(kind)
        used = f", last used {duration(time.time() - max(entry.used for entry in entries))} ago" if entries else ""
        size = cache.size_text(sum(entry.size for entry in entries))
        print(f"  {kind:8} {len(entries):9,} files {size:>10}{used}")


if __name__ == "__main__":
    run(main)
