"""Installs a package as pip does, without a build backend: what Python and `importlib.metadata` then find."""

import base64
import json
import shutil
import tomllib
from hashlib import sha256
from pathlib import Path


def install(project: Path, site: Path, *, editable: bool = False) -> None:
    """Install the package of a project folder into a folder of Python's path."""
    data = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name, version = data["name"].replace("-", "_"), data["version"]
    info = site / f"{name}-{version}.dist-info"
    shutil.rmtree(info, ignore_errors=True)
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {data['name']}\nVersion: {version}\n")
    groups = data.get("entry-points", {})
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    if editable:
        files = [site / f"_{name}.pth"]
        files[0].write_text(f"{project}\n")
        origin = {"url": project.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(origin))
    else:
        shutil.copytree(project / name, site / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        files = sorted((site / name).rglob("*.py"))
    record = [f"{path.relative_to(site).as_posix()},sha256={_hash(path)},{path.stat().st_size}" for path in files]
    (info / "RECORD").write_text("\n".join([*record, f"{info.name}/RECORD,,"]) + "\n")


def _hash(path: Path) -> str:
    return base64.urlsafe_b64encode(sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
