"""What a run needs, by arithmetic alone: ``python -m gatepo.plan +experiment=paper/erf``. Loads no weights."""
