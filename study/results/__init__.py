"""The files of a study: study.json, journal, histories and tables, and reopening them."""
