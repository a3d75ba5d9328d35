"""Write the JSON Schemas of all documents: `python -m plausible.schemas.generate` (run it after changing a model).

The models are the source; the schemas are package data for other programs, and say less than the models do (own-JCS
equality and the rules between fields have no JSON Schema).
"""

from __future__ import annotations

import json
from pathlib import Path

from .attribution import AttributionJob, AttributionRow
from .calibration import CalibrationDocument
from .contradiction import KINDS as CONTRADICTIONS
from .copies import CopyCalibration
from .document import Document
from .envelope import Envelope
from .manifest import Manifest
from .opening import Opening
from .receipt import Receipt
from .record import Record
from .report import ReportDocument
from .statement import (
    AuthorKeyStatement,
    AuthorRevocationStatement,
    GenerationStatement,
    ModelStatement,
    SeedEpochStatement,
)

FOLDER = Path(__file__).resolve().parent / "json"
DOCUMENTS: dict[str, type[Document]] = {
    "envelope": Envelope,
    "generation": GenerationStatement,
    "model": ModelStatement,
    "author-key": AuthorKeyStatement,
    "author-revocation": AuthorRevocationStatement,
    "seed-epoch": SeedEpochStatement,
    "record": Record,
    "opening": Opening,
    "manifest": Manifest,
    "receipt": Receipt,
    "calibration": CalibrationDocument,
    "copies": CopyCalibration,
    "report": ReportDocument,
    "attribution": AttributionRow,
    "attribution-job": AttributionJob,
    **{f"contradiction-{kind}": model for kind, model in CONTRADICTIONS.items()},
}


def schema_text(name: str) -> str:
    """The JSON Schema of one document, as its file holds it."""
    schema = DOCUMENTS[name].model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every schema into the package's json folder."""
    FOLDER.mkdir(exist_ok=True)
    for name in DOCUMENTS:
        (FOLDER / f"{name}.json").write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
