.PHONY: lint test test-slow test-long lower-bounds licences dist docs

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

lower-bounds:
	.ci/lower-bounds

licences:
	uvx --quiet pip-licenses --python "$$(command -v python)" --order=license

dist:
	rm -rf dist
	uv build

docs:
	sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
