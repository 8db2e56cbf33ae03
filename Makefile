.PHONY: lint test test-slow test-long

lint:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest -n 2 --dist loadfile

test-slow:
	pytest -n 2 --dist loadfile -m slow

test-long:
	pytest -m long
