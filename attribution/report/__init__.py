"""The report of a verification: its document, its pictures, its one page."""
