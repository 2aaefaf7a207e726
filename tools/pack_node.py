"""Packs the npm package as it is published: `taskloom`, and beside it the package with this platform's addon.

    python tools/pack_node.py          what `make node` has built goes into dist/npm/*.tgz

The package itself has no addon in it. It names one package for each platform among its optional dependencies, and npm
installs the one that fits; nothing is run at the install. `@napi-rs/cli` lays those packages out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NODE = ROOT / "node"
OUT = ROOT / "dist" / "npm"


def run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def platforms() -> list[Path]:
    """The folders of the platforms' packages, made anew."""
    shutil.rmtree(NODE / "npm", ignore_errors=True)
    run("npx", "--no-install", "napi", "create-npm-dirs", cwd=NODE)
    return sorted((NODE / "npm").iterdir())


def pack(folder: Path) -> None:
    run("npm", "pack", "--ignore-scripts", "--pack-destination", str(OUT), cwd=folder)


def main() -> int:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    optional: dict[str, str] = {}
    packed = 0
    for folder in platforms():
        about = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        optional[about["name"]] = about["version"]
        addon = NODE / "dist" / about["main"]
        if addon.exists():
            shutil.copy(addon, folder)
            pack(folder)
            packed += 1
    if packed == 0:
        print("there is no addon in node/dist: run make node", file=sys.stderr)
        return 1
    staged = OUT / "package"
    shutil.copytree(NODE / "dist", staged / "dist", ignore=shutil.ignore_patterns("*.node", "*.tsbuildinfo"))
    for name in ("taskloom.mjs", "index.mjs", "index.d.mts", "testing.mjs", "testing.d.mts", "README.md"):
        shutil.copy(NODE / name, staged)
    for licence in ROOT.glob("LICENSE-*"):
        shutil.copy(licence, staged)
    package = json.loads((NODE / "package.json").read_text(encoding="utf-8"))
    for ours in ("scripts", "devDependencies", "overrides"):
        del package[ours]
    package["optionalDependencies"] = optional
    (staged / "package.json").write_text(json.dumps(package, indent=2) + "\n", encoding="utf-8")
    pack(staged)
    shutil.rmtree(staged)
    for archive in sorted(OUT.iterdir()):
        print(archive.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
