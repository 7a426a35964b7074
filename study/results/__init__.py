"""What is on disk: study.json, the journal, the histories, the tables, and opening them again."""
