"""Flag > PD_* environment > project file > user config > default, and `pd config` says which it was."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from plausible.cli import settings
from plausible.schemas.errors import UsageError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_nearest_source_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.resolve("policy") == settings.Value(None, "default")
    write(settings.user_file(), 'policy = "user.policy"\n')
    user = settings.resolve("policy")
    assert user == settings.Value(settings.user_file().parent / "user.policy", str(settings.user_file()))
    write(tmp_path / "plausible.toml", 'policy = "project.policy"\n')
    assert settings.get("policy") == tmp_path / "project.policy"
    monkeypatch.setenv("PD_POLICY", "environment.policy")
    assert settings.resolve("policy") == settings.Value(Path("environment.policy"), "PD_POLICY")
    assert settings.resolve("policy", Path("flag.policy")) == settings.Value(Path("flag.policy"), "flag")


def test_a_parent_folders_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked evidence below a project, or a project below it, must not choose whom to believe."""
    write(tmp_path / "plausible.toml", 'policy = "above.policy"\n')
    (tmp_path / "evidence").mkdir()
    monkeypatch.chdir(tmp_path / "evidence")
    assert settings.get("policy") is None


def test_lists_and_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "plausible.toml", 'ledger = "https://log.example/studio"\naccused = ["a.example", "b.example"]\n')
    assert settings.get("ledger") == "https://log.example/studio"
    assert settings.get("accused") == ("a.example", "b.example")
    monkeypatch.setenv("PD_ACCUSED", "c.example  d.example")
    assert settings.get("accused") == ("c.example", "d.example")
    assert settings.get("accused", ["e.example"]) == ("e.example",)


@pytest.mark.parametrize(
    "text",
    [
        "polcy = 'x'",
        "policy = 3",
        "accused = 'one'",
        "accused = [1]",
        "policy = ",
        "max_age = true",
        "max_age = -1",
        "[policy]\nx = 1",
        "\xff",
    ],
)
def test_a_mistake_in_a_file_is_said(pd, tmp_path: Path, text: str) -> None:
    (tmp_path / "plausible.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError):
        settings.effective()
    result = pd("config")
    assert result.code == 2
    assert result.sentence()


def test_pd_config_shows_where_each_came_from(pd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "plausible.toml", 'integrity = "strict"\n')
    monkeypatch.setenv("PD_LEDGER", "studio.ledger")
    found = pd("config", "--json").document()
    assert found["format"] == "plausible.config/1"
    assert found["settings"]["integrity"] == {"value": "strict", "source": str(tmp_path / "plausible.toml")}
    assert found["settings"]["ledger"] == {"value": "studio.ledger", "source": "PD_LEDGER"}
    assert found["settings"]["device"]["source"] == "default"
    assert set(found["settings"]) == {setting.name for setting in settings.SETTINGS}
    assert "PD_LEDGER" in pd("config").out


def test_doctor_names_what_is_missing_and_what_to_do(pd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PD_POLICY", "nowhere.policy")
    found = {f["name"]: f for f in pd("doctor", "--json").document()["findings"]}
    assert found["setting policy"]["state"] == "missing"
    assert "PD_POLICY" in found["setting policy"]["remedy"]
    assert found["cryptography"]["state"] == "ok"


def test_doctor_exits_four_if_a_needed_package_is_gone(pd, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def without(name: str) -> str:
        if name in ("rfc8785", "fastapi"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", without)
    result = pd("doctor")
    assert result.code == 4
    assert "-> rfc8785: pip install plausible-deniability" in result.out
    assert "plausible-deniability[node]" in result.out
