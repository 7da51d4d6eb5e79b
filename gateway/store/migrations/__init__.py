"""The schema's history, for Alembic: each step is written out and never edited once released."""
