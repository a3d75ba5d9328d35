"""Model folders are copied in only if the weights are the manifest's, read without torch and without unpickling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import array_digest, model_digest, model_manifest
from plausible.ledger.entries.weights import check_weights, tensor_rows
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError, SetupError, UsageError
from safetensors.numpy import save_file

from tests.ledger.studio import make

TENSORS = {"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 2), np.float16), "n": np.array(7, np.int64)}


def folder(path: Path) -> Path:
    path.mkdir()
    save_file(TENSORS, path / "weights.safetensors")
    rows = [(name, array.dtype.name, array.shape, array_digest(array)) for name, array in TENSORS.items()]
    manifest = model_manifest("x", {}, {"rounding": "round_half_even_255"}, rows)
    (path / "manifest.json").write_bytes(jcs.encode(manifest))
    (path / "calibrations").mkdir()
    (path / "calibrations/one.json").write_text("{}")
    (path / "notes.txt").write_text("not part of a model folder")
    return path


def test_a_folder_is_copied_and_its_digest_logged(tmp_path: Path) -> None:
    source = folder(tmp_path / "model")
    with make(tmp_path / "a.ledger", model=False) as ledger:
        ledger.register_model("x", folder=source).wait("witnessed", 30)
        [model] = ledger.models()
        assert model.digest == model_digest(model.manifest()) and ledger.find(model=model.digest) == [0]
        names = sorted(str(p.relative_to(model.folder)) for p in model.folder.rglob("*") if p.is_file())
        assert names == ["calibrations/one.json", "manifest.json", "weights.safetensors"]
        assert (model.folder / "weights.safetensors").read_bytes() == (source / "weights.safetensors").read_bytes()


def test_rows_are_those_of_the_arrays(tmp_path: Path) -> None:
    rows = tensor_rows(folder(tmp_path / "m") / "weights.safetensors")
    found = {name: (dtype, shape, digest) for name, dtype, shape, digest in rows}
    assert found == {name: (a.dtype.name, a.shape, array_digest(a)) for name, a in TENSORS.items()}


@pytest.mark.parametrize("change", ["weights", "manifest", "pickle", "truncated", "huge header", "missing"])
def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, change: str) -> None:
    source = folder(tmp_path / "model")
    weights = source / "weights.safetensors"
    data = weights.read_bytes()
    if change == "weights":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif change == "manifest":
        (source / "manifest.json").write_bytes(b'{"tensors":[]}')
    elif change == "pickle":
        weights.write_bytes(b"\x80\x02}q\x00.")
    elif change == "truncated":
        weights.write_bytes(data[:-3])
    elif change == "huge header":
        weights.write_bytes(b"\xff" * 8 + data[8:])
    else:
        (source / "manifest.json").unlink()
    with make(tmp_path / "a.ledger", model=False) as ledger:
        with pytest.raises((EvidenceError, SetupError)):
            ledger.register_model("x", folder=source)
        assert ledger.models() == [] and not (ledger.path / "models/x").exists()


def test_tied_tensors_may_stand_once_in_the_file(tmp_path: Path) -> None:
    save_file({"a": TENSORS["b"]}, tmp_path / "w")
    rows = [(name, "float32", (3,), array_digest(TENSORS["b"])) for name in ("a", "tied.a")]
    manifest = model_manifest("x", {}, {"rounding": "round_half_even_255"}, rows)
    check_weights(tmp_path / "w", manifest)
    other = [*rows, ("c", "float32", (3,), bytes(32))]
    with pytest.raises(EvidenceError, match="'c' is missing"):
        check_weights(tmp_path / "w", model_manifest("x", {}, {"rounding": "round_half_even_255"}, other))


def test_names_are_names(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger", model=False) as ledger:
        for name in ("", "../x", "a/b", ".hidden", "x" * 65, "ä"):
            with pytest.raises(UsageError, match="model's name"):
                ledger.register_model(name, manifest={})
        with pytest.raises(UsageError, match="either manifest= or folder="):
            ledger.register_model("x")


def test_a_manifest_changed_later_is_noticed(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        path = ledger.model("m").folder / "manifest.json"
        manifest = json.loads(path.read_bytes())
        manifest["architecture"] = "other"
        path.write_bytes(jcs.encode(manifest))
    with Ledger.open(tmp_path / "a.ledger") as ledger, pytest.raises(SetupError, match="not the manifest"):
        ledger.wrap(lambda: None, model="m")
