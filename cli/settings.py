"""Settings and where each came from: flag > PD_* environment > project file > user config > default.

The project file is `plausible.toml` in the current folder (never in a parent: a folder of evidence must not be able to
choose the policy of whoever works below it); the user's is `$XDG_CONFIG_HOME/plausible/config.toml`. Both hold the
names below as top-level keys. A relative path in a file is relative to that file. An unknown key is an error: a
misspelt `polcy` must not silently mean "no policy".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..schemas.errors import UsageError

PROJECT_FILE = "plausible.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `kind` is `path`, `place` (a folder or a URL), `number`, `word` or `words`."""

    name: str
    kind: str
    default: str | tuple[str, ...] | None
    help: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "PD_" + self.name.upper()


@dataclass(frozen=True, slots=True)
class Value:
    """An effective value and where it came from."""

    value: Any
    source: str


SETTINGS: tuple[Setting, ...] = (
    Setting("ledger", "place", None, "the ledger folder, or the URL of a served log"),
    Setting("policy", "path", None, "tlog-policy file: which logs and witnesses to believe"),
    Setting("authors", "path", None, "authors file: which author keys to believe"),
    Setting(
        "index_policy", "path", None, "tlog-policy file with index keys: whose roots of the absence index to believe"
    ),
    Setting("models", "path", None, "folder with one model folder per registered generator, beside the ledger's own"),
    Setting("integrity", "word", "relaxed", "what a denial claims: `strict` (these very pixels) or `relaxed`"),
    Setting("accused", "words", (), "names of the accused authors; none named means all of the authors file"),
    Setting("auditor_key", "path", None, "private key file that signs reports"),
    Setting("inception", "path", None, "Inception weights (safetensors) for 004's feature distance"),
    Setting("max_age", "number", None, "absence counts only under a checkpoint at most so many seconds old"),
    Setting("vault_key", "path", None, "key file of an encrypted vault (a passphrase: PD_VAULT_PASSPHRASE)"),
    Setting("host", "word", "127.0.0.1", "where services listen"),
    Setting("port", "word", None, "the port services listen on; each has a default of its own"),
    Setting("metrics", "word", None, "HOST:PORT of a service's Prometheus metrics"),
    Setting("log_format", "word", "text", "log lines of services: `text` or `json`"),
    Setting("log_level", "word", "warning", "log lines of services: `debug`, `info`, `warning`, `error`"),
    Setting("device", "word", "cpu", "where generators run: `cpu`, `cuda`, `cuda:1`, `mps`"),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def user_file(environment: Mapping[str, str] | None = None) -> Path:
    """The user's configuration file (it need not exist)."""
    env = os.environ if environment is None else environment
    base = env.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "plausible" / "config.toml"


def project_file(folder: Path | None = None) -> Path:
    """The project's file (it need not exist): only the current folder's counts."""
    return (folder or Path.cwd()) / PROJECT_FILE


def resolve(name: str, flag: Any = None) -> Value:
    """The effective value of one setting, given what the command line said (None or empty: nothing).

    Raises UsageError if a configuration file is malformed or names an unknown setting.
    """
    setting = _BY_NAME[name]
    if flag is not None and flag not in ("", [], ()):
        return Value(_shape(setting, flag, None), "flag")
    text = os.environ.get(setting.variable)
    if text:
        split = tuple(text.split()) if setting.kind == "words" else text
        return Value(_shape(setting, split, None), setting.variable)
    for path in (project_file(), user_file()):
        stored = _read(path).get(name)
        if stored is not None:
            return Value(_shape(setting, stored, path.parent), str(path))
    return Value(setting.default, "default")


def get(name: str, flag: Any = None) -> Any:
    """`resolve(name, flag).value`."""
    return resolve(name, flag).value


def effective() -> dict[str, Value]:
    """Every setting, as a command without flags would see it."""
    return {setting.name: resolve(setting.name) for setting in SETTINGS}


def _read(path: Path) -> dict[str, Any]:
    from ..schemas import toml
    from ..schemas.errors import EvidenceError

    try:
        with path.open("rb") as file:
            data = toml.decode(file.read(toml.MAX_TOML_BYTES + 1), str(path))
    except FileNotFoundError:
        return {}
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    for key in data:
        if key not in _BY_NAME:
            known = ", ".join(setting.name for setting in SETTINGS)
            raise UsageError(f"{path} names an unknown setting {key!r}; known are: {known}")
    return data


def chosen_by_files(names: Iterable[str]) -> list[str]:
    """One sentence for each of these settings whose value a file chose: what decides must not go unnoticed."""
    found = [(name, resolve(name)) for name in names if not os.environ.get(_BY_NAME[name].variable)]
    return [f"{name} chosen by {value.source}" for name, value in found if value.source != "default"]


def _number(setting: Setting, value: Any) -> float:
    """A number of at least 0, from a file as a number and from the environment as text."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"the setting {setting.name} is a number of at least 0, not {value!r}")
    return number


def _shape(setting: Setting, value: Any, base: Path | None) -> Any:
    """The value in its Python shape; `base` is the folder of the file it was read from."""
    if setting.kind == "words":
        if isinstance(value, str) or not all(isinstance(word, str) for word in value):
            raise UsageError(f"the setting {setting.name} is a list of texts")
        return tuple(value)
    if setting.kind == "number":
        return _number(setting, value)
    if not isinstance(value, (str, Path)):
        raise UsageError(f"the setting {setting.name} is a text, not {value!r}")
    if setting.kind == "word":
        return str(value)
    if setting.kind == "place" and str(value).startswith(("http://", "https://")):
        return str(value)
    path = Path(value).expanduser()
    return base / path if base is not None else path
