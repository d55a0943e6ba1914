"""Checking a whole cache without its teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaspertc.errors import CacheError
from jaspertc.teaching.cache import VectorCache
from jaspertc.teaching.manifest import damages, read_manifest
from jaspertc.teaching.recipe_texts import RecipeTexts
from jaspertc.teaching.targets import require_all


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was looked at, and all that is wrong."""

    summary: str
    problems: list[str]


def verify_folder(folder: Path, texts: RecipeTexts, roles: Sequence[str], skip: str = "") -> Report:
    """Check every shard against its checksums, and that each text of these roles has a vector, but for
    those in which the teacher's ``skip`` is found.

    Nothing is raised for damage: each problem is a line that names shard or text, and the fix.
    """
    try:
        manifest = read_manifest(folder)
    except CacheError as error:
        return Report(summary="no vectors that can be read", problems=[str(error)])
    problems = [wrong for _, wrong in damages(folder, manifest) if wrong is not None]
    rows = sum(shard.rows for shard in manifest.shards)
    said = f"{len(manifest.shards)} shards, {rows} vectors of {manifest.dims} dimensions"
    if problems:
        return Report(summary=f"{said}; {len(problems)} shards are damaged", problems=problems)
    cache = VectorCache(folder, verify=False)
    for role in roles:
        try:
            require_all(cache, texts, role, skip)
        except CacheError as error:
            problems.append(str(error))
    return Report(summary=f"{said}; {'not complete' if problems else 'all sound'}", problems=problems)
