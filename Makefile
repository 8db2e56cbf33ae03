.PHONY: lint test test-slow

lint:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest

test-slow:
	pytest -m slow
