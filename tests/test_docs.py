"""The pages: every link leads somewhere, every public name and flag is described, files parse."""

import inspect
import re
import shlex
import sys

import pytest
import yaml
from conftest import ROOT

import moco_tf
import moco_tf.augmentation
import moco_tf.functional
import moco_tf.layers
from moco_tf.commands.cli import COMMANDS, _parser
from moco_tf.config import Config

sys.path.append(str(ROOT / "docs"))
import generate

GENERATED = {"commands.md", "config.md", "recipes.md"}
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/records/*.md")),
    ROOT / "docs" / "reference" / "api.md",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MODULES = (moco_tf, moco_tf.augmentation, moco_tf.functional, moco_tf.layers)


def prose(page):
    """The page without its blocks of code and its code spans."""
    blocks = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", blocks)


def anchors(page):
    """As GitHub and MyST name the headings of a page."""
    for title in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        yield re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists() or there.name in GENERATED, target
        assert not anchor or anchor in anchors(there), target


def test_the_algorithm_page_quotes_the_step_as_it_is():
    rows = re.findall(r"^\| `.*", (ROOT / "docs" / "algorithm.md").read_text(), re.MULTILINE)
    step = (ROOT / "src" / "moco_tf" / "methods" / "moco.py").read_text()
    quoted = [re.findall(r"`([^`]+)`", row.split(" | ")[1])[0] for row in rows]
    assert len(quoted) == 8
    assert all(line in step for line in quoted), quoted


def test_there_are_links_on_the_pages():
    assert sum(len(LINK.findall(prose(page))) for page in PAGES) > 60


def test_every_public_name_says_what_it_is():
    api = (ROOT / "docs" / "reference" / "api.md").read_text()
    for module in MODULES:
        assert module.__name__ in api
        for name in module.__all__:
            told = getattr(module, name)
            if inspect.isclass(told) or callable(told):
                assert len(inspect.getdoc(told) or "") > 20, name
    for name in set(moco_tf.__all__) - {"__version__"}:
        assert f"moco_tf.{name}" in api, name


@pytest.fixture(scope="module")
def reference():
    return generate.commands_page()


@pytest.mark.parametrize("command", [usage.partition(" ")[0] for usage in COMMANDS])
def test_every_flag_is_described_in_the_reference(command, reference):
    commands = _parser([command])._subparsers._group_actions[0].choices
    section = reference.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    for action in commands[command]._actions:
        assert action.help, action.dest
        for flag in action.option_strings:
            assert flag in section


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_every_flag_that_a_page_names_is_one_of_a_command(page, reference):
    flags = set(re.findall(r"--[a-z][a-z0-9-]+", reference))
    assert set(re.findall(r"`(--[a-z][a-z0-9-]+)", (ROOT / page).read_text())) <= flags


def test_every_field_of_a_config_is_described_in_the_reference():
    page = generate.config_page()
    for name, field in Config.model_fields.items():
        assert field.description, name
        assert page.count(f"| `{name}` |") == 1, name


def test_the_reference_is_written_once(tmp_path):
    generate.write_reference(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == GENERATED
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    generate.write_reference(tmp_path)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_the_compose_file_starts_two_workers_of_one_run():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    parsed = [
        vars(_parser(words).parse_args(words))
        for words in (shlex.split(service["command"]) for service in services.values())
    ]
    assert [options.pop("worker_index") for options in parsed] == ["0", "1"]
    for options in parsed:
        options.pop("parser")
    assert parsed[0] == parsed[1]
    assert parsed[0]["workers"] == ",".join(f"{name}:12345" for name in services)


def test_the_workflow_does_what_the_local_check_does():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    steps = [step.get("run") for step in workflow["jobs"]["tests"]["steps"]]
    assert ".ci/run" in steps
    oldest = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"][0]
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text()


def test_the_citation_names_the_three_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == "Apache-2.0"
    assert [entry["url"].rpartition("/")[2] for entry in citation["references"]] == [
        "1911.05722",
        "2003.04297",
        "2104.02057",
    ]
