"""The files of a study: study.json, journal, histories, tables, and their recovery."""
