"""The page's files, put together: `python -m tools.page`, which `make page` runs after `npm ci`.

Takes the sources in page/ and the runtime that npm installed there, and writes them to affectnet/web/built, from where `affectnet demo`
and wheels take them; then the whole page with the shipped model to site/, for any static host.
"""

import gzip
from pathlib import Path

from affectnet.errors import UserError, exit_code
from affectnet.files.atomic import replacing_folder
from affectnet.predict.defaults import SHIPPED
from affectnet.web.site import BUILT, Reading, site_files, write_site

ROOT = Path(__file__).parents[1]
SOURCES, SITE = ROOT / "page", ROOT / "site"
RUNTIME = SOURCES / "node_modules" / "onnxruntime-web" / "dist"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"

SUFFIXES = {".css", ".html", ".mjs", ".svg", ".txt"}
MOST_BYTES = 16_000_000
"""Of the whole page."""


def build(folder: Path) -> None:
    """Errors: UserError when npm did not install the runtime."""
    if not (RUNTIME / WASM).is_file():
        raise UserError(f"{RUNTIME / WASM}: missing; run `make page`, which installs it by npm")
    with replacing_folder(folder) as temporary:
        for path in SOURCES.iterdir():
            if path.suffix in SUFFIXES:
                (temporary / path.name).write_bytes(path.read_bytes())
        (temporary / "runtime").mkdir()
        (temporary / "runtime" / SCRIPT).write_bytes((RUNTIME / SCRIPT).read_bytes())
        # Compressed here, since few static hosts compress it: 14 MB become 4.
        (temporary / "runtime" / f"{WASM}.gz").write_bytes(gzip.compress((RUNTIME / WASM).read_bytes(), 9, mtime=0))


def main() -> None:
    build(BUILT)
    files = site_files(SHIPPED, Reading())
    write_site(files, SITE)
    size = sum(map(len, files.values()))
    if size > MOST_BYTES:
        raise UserError(f"{SITE}: {size:,} bytes, more than {MOST_BYTES:,}; make the model or the runtime smaller")
    print(f"page: {len(files)} files, {size / 1e6:.1f} MB in {SITE}; to look at it: affectnet demo --open")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
