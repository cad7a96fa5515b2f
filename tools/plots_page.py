"""Makes the page of `dvc plots`, .dvc/plots/page.html, with Vega inside, so that it needs no network.

npm pack vega@5.33.0 vega-lite@5.23.0 vega-embed@6.29.0
python -m tools.plots_page vega-5.33.0.tgz vega-lite-5.23.0.tgz vega-embed-6.29.0.tgz
"""

import argparse
import hashlib
import tarfile
from pathlib import Path

from affectnet.errors import UserError, exit_code
from affectnet.files.atomic import write_text

PAGE = Path(".dvc/plots/page.html")

SCRIPTS = {
    "vega-5.33.0.tgz": ("package/build/vega.min.js", "a71f14828abacac82fbe8adb07ce65cbb82561d8eef188053c4a1c09e0164dcb"),
    "vega-lite-5.23.0.tgz": ("package/build/vega-lite.min.js", "58c27358e26f2d319cf62f45bc17a4c8362f08645001df2ec8d341eee4097c7f"),
    "vega-embed-6.29.0.tgz": ("package/build/vega-embed.min.js", "12d02acfbe3ec59ef9a37dd4822a2e04e2961b5bbb671bbe661d2221715b99da"),
}
"""Name of each package's file → the script in it, and the SHA-256 of the script."""

LICENSE = "package/LICENSE"

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; \
style-src 'unsafe-inline'; img-src 'self' file: data: blob:; connect-src data:">
{refresh_tag}
<title>Plots</title>
<style>body { font-family: system-ui, sans-serif; margin: 1rem; } table { border-spacing: 1rem; }</style>
%s
</head>
<body>
{plot_divs}
</body>
</html>
"""
"""DVC fills in refresh_tag and plot_divs; it would put addresses of scripts where {scripts} stands, so it stands nowhere."""


def page(packages: dict[str, Path]) -> str:
    """The page with the scripts of these packages. Errors: UserError when one is missing or not the pinned one."""
    parts = []
    for name, (script, digest) in SCRIPTS.items():
        if name not in packages:
            raise UserError(f"{name}: not named; npm pack {name.removesuffix('.tgz').replace('-5', '@5').replace('-6', '@6')}")
        with tarfile.open(packages[name]) as archive:
            content, terms = (_read(archive, member) for member in (script, LICENSE))
        if hashlib.sha256(content.encode()).hexdigest() != digest:
            raise UserError(f"{packages[name]}: {script} is not the pinned one, of SHA-256 {digest}")
        parts.append(f"<!-- {name.removesuffix('.tgz')}\n{terms.strip()}\n-->\n<script>{content}</script>")
    return TEMPLATE % "\n".join(parts)


def _read(archive: tarfile.TarFile, member: str) -> str:
    file = archive.extractfile(member)
    assert file is not None  # a regular file
    return file.read().decode()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.plots_page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", nargs="+", type=Path)
    content = page({path.name: path for path in parser.parse_args().packages})
    write_text(PAGE, content)
    print(f"{PAGE}: {len(content):,} characters")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
