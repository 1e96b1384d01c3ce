"""Studies as TOML: loading, saving, and errors that name the key, the value and the fix."""

import json
import re
import tomllib
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard, get_args

import tomli_w
from pydantic import ValidationError

from scaling.design.datasets import DATA_SECTIONS, DIGITS
from scaling.design.recipe_files import with_base
from scaling.design.sections import Section
from scaling.design.studies import STUDY_NAME, Study
from scaling.errors import UsageError, nearest
from scaling.outputs import check_output, write_output

SHOWN_PROBLEMS = 3


class StudyError(UsageError):
    """A study that cannot be run as written."""


def builtin_studies() -> dict[str, str]:
    """TOML text of each built-in study by name."""
    folder = resources.files("scaling.design") / "builtin"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda f: f.name)
    return {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}


def load_study(source: str | Path) -> Study:
    """Load a built-in study by name, a TOML file, or the study of a run directory.

    Raises:
        StudyError: when there is no such study, the file is not TOML, or a value is refused.
    """
    return parse_study(study_text(source), origin=str(source))


def study_text(source: str | Path) -> str:
    """TOML text behind a study's name or path."""
    builtin = builtin_studies()
    if str(source) in builtin:
        return builtin[str(source)]
    path = Path(source)
    path = path / "study.toml" if path.is_dir() else path
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"{path}: cannot be read as a study: {error}") from None
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise StudyError(f"{path}: no such study file; 'scaling init NAME' writes one")
    near = [name for name in (f"{source}.toml", f"runs/{source}") if Path(name).exists()]
    hint = f"did you mean {' or '.join(near)}?" if near else nearest(str(source), builtin)
    raise StudyError(f"no built-in study '{source}' ({hint}); or give a path to a .toml file")


def run_directory_of(source: str | Path) -> Path | None:
    """The run directory that a source names; a built-in study's name never does."""
    path = Path(source)
    return path if str(source) not in builtin_studies() and (path / "study.toml").is_file() else None


def parse_study(text: str, origin: str) -> Study:
    """Read a study from TOML text; `origin` names it in errors."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{origin}: not TOML: {error}") from None
    return build_study(values, origin)


def build_study(values: dict[str, Any], origin: str = "study") -> Study:
    """Check plain values and make a study of them, refusing every bad value with its dotted path."""
    values = _with_bases(values, origin)
    try:
        # By way of JSON, whose strict mode takes lists for tuples but no text for numbers.
        return Study.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors(include_url=False)]
    lines = [f"{origin}: {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines[-1] += f" (and {len(problems) - SHOWN_PROBLEMS} more)"
    raise StudyError("\n".join(lines))


def _with_bases(values: dict[str, Any], origin: str) -> dict[str, Any]:
    """The values with recipes that ship filled in where a recipe names one as its base."""
    stages, data = values.get("pretraining"), values.get("data")
    try:
        if isinstance(stages, list):
            values = values | {"pretraining": [_with_base(stage, data) for stage in stages]}
        return _with_base(values, data)
    except UsageError as error:
        raise StudyError(f"{origin}: {error}") from None


def _with_base(table: Any, data: Any) -> Any:
    """A table with its recipe filled in; `data` are those of a stage without its own."""
    recipe = table.get("recipe") if isinstance(table, dict) else None
    if not isinstance(recipe, dict) or "base" not in recipe:
        return table
    data = table.get("data", data)
    drawn = not isinstance(data, dict) or data.get("name", DIGITS) == DIGITS
    return table | {"recipe": with_base(recipe, drawn)}


def with_processes(study: Study, count: int) -> Study:
    """The same study with so many processes for each cell; raises StudyError where they do not divide its batches."""
    values = study.model_dump(mode="json", exclude_none=True)
    values["resources"]["processes"] = count
    return build_study(values, origin=f"{study.name} on {count} processes")


def study_to_toml(study: Study) -> str:
    """TOML with every default written out, so that it means the same to a later version."""
    unused = {key for key in ("hardware", "pretraining") if not getattr(study, key)}
    return tomli_w.dumps(study.model_dump(mode="json", exclude_none=True, exclude=unused))


def start_study(path: Path, name: str, template: str) -> None:
    """Write a new study file from a built-in study or another file, under a new name.

    Raises:
        StudyError: if the name or the template is not one, or the file exists.
        OutputError: if it cannot be written.
    """
    if re.match(STUDY_NAME, name) is None:
        raise StudyError(f"'{name}' cannot name a study; use letters, digits, dots, dashes and underscores")
    text = re.sub(r"(?m)^name\s*=.*$", f'name = "{name}"', study_text(template), count=1)
    if parse_study(text, origin=str(path)).name != name:
        raise StudyError(f'{template}: its first key must be name = "..." to be a template')
    write_new_study(path, text)


def write_new_study(path: Path, text: str) -> None:
    """Write the TOML of a study to a file that does not exist.

    Raises:
        StudyError: if it exists.
        OutputError: if it cannot be written.
    """
    check_new_study(path)
    write_output(path, text)


def check_new_study(path: Path) -> None:
    """Refuse a file that exists or could not be written; raises as `write_new_study` does."""
    if path.exists():
        raise StudyError(f"{path} exists already; choose another name")
    check_output(path)


def _explain(problem: Any) -> str:
    """One line for one pydantic problem: dotted path, value, fix."""
    path = _dotted(_written(problem["loc"]))
    kind, message, value = problem["type"], problem["msg"], problem["input"]
    if kind == "union_tag_invalid":
        return f"{path}.name: {problem['ctx']['tag']!r} is not known; {nearest(problem['ctx']['tag'], DATA_SECTIONS)}"
    if kind == "union_tag_not_found":
        return f"{path}: {value!r}: should be a table, [{path}]"
    if kind == "extra_forbidden":
        return f"{path}: unknown key; {nearest(str(problem['loc'][-1]), _keys_beside(problem['loc']))}"
    if kind == "missing":
        return f"{path}: missing; add it (see 'scaling init' for a complete study)"
    if kind == "value_error":
        own, (place, _, key) = str(problem["ctx"]["error"]), path.rpartition(".")
        if key and not own.startswith(key.split("[")[0]):
            return f"{path}: {own}"
        return f"{place}.{own}" if place else own
    if kind == "literal_error":
        return f"{path}: {value!r} is not allowed; use {problem['ctx']['expected']}"
    if kind == "tuple_type":
        message = "Input should be a list, in square brackets"
    return f"{path}: {value!r}: {message[0].lower()}{message[1:]}"


def _written(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A place as the file has it: without the name of the data set that pydantic puts after `data`."""
    end = location.index("data") + 1 if "data" in location else len(location)
    return location[:end] + location[end + 1 :]


def _dotted(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _keys_beside(location: tuple[str | int, ...]) -> list[str]:
    """Keys that are legal where an unknown one stands."""
    keys = Study.model_fields
    for part, inner in pairwise(location):
        if part == "data":
            return list(DATA_SECTIONS[str(inner)].model_fields)
        if part in keys:  # neither an index nor the name of a table of the user's
            annotation = keys[part].annotation
            section = next(kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
            keys = section.model_fields
    return list(keys)


def _is_section(kind: object) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)
