"""The sections of the page: each makes its text, tables, figures and captions."""
