.PHONY: lint test test-slow

lint:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest -n 2 --dist loadfile

test-slow:
	pytest -m slow
