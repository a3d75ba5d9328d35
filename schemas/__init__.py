"""What is written down: statement, record, opening, manifest, calibration, receipt, report, and the error tree.

Imports no other room. Documents are strict JCS (`jcs.py`); JSON Schemas generated from the models lie in `json/`.
"""
