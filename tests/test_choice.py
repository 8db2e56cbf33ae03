"""Without a recipe: the one that suits the data, or the run that is there; and a line on why."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.records import imagenet, write_shards

from moco_tf.api import choice
from moco_tf.api.choice import Seen, choose, look
from moco_tf.api.settings import resolve_config
from moco_tf.config import Config, make_config
from moco_tf.data.source_kind import PACK_BEGUN, PACK_INDEX
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES
from moco_tf.runs.config_file import read_config
from moco_tf.runs.folder import claim


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photos(name="photos", count=6, side=80):
    for number in range(count):
        path = choice.Path(name, "all", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side + number, side)).save(path)
    return name


def resolved(recipe=None, file=None, **flags):
    said = []
    return resolve_config(recipe, file, flags, say=said.append), said


@pytest.mark.parametrize(
    ("seen", "recipe"),
    [
        (Seen(48, 300), "small"),
        (Seen(10_000, 300), "small"),
        (Seen(10_001, 300), "moco-v2"),
        (Seen(5, None), "small"),
        (Seen(50_000, 32), "cifar10-demo"),
        (Seen(50_000, 47), "cifar10-demo"),
        (Seen(50_000, 48), "moco-v2"),
        (Seen(), "moco-v2"),
    ],
)
def test_the_recipe_follows_from_count_and_size(seen, recipe):
    assert choose(seen)[0] == recipe


def test_what_is_seen_of_data_that_is_not_opened(here):
    assert look(photos()) == Seen(6, 80)
    (here / "photos" / "all" / "9.png").write_text("damaged")
    assert look("photos") == Seen(7, 80)
    np.savez("arrays.npz", images=np.zeros((5, 30, 40, 3), np.uint8), labels=np.arange(5))
    np.savez("keras.npz", x_train=np.zeros((4, 28, 28), np.uint8), x_test=np.zeros((2, 28, 28)))
    np.savez("others.npz", a=np.zeros(3))
    (here / "damaged.npz").write_text("x")
    assert [look(f"{n}.npz") for n in ("arrays", "keras", "others", "damaged", "absent")] == [
        Seen(5, 30), Seen(4, 28), Seen(), Seen(), None,
    ]  # fmt: skip
    assert look("cifar100") == Seen(50_000, 32)
    assert look("absent") is None


def test_the_choice_is_said_and_the_folder_is_named_after_data_and_recipe(here):
    config, (line,) = resolved(data=photos(), epochs="3")
    assert line == (
        "recipe small, into runs/photos-small: photos holds 6 images, no more than 10000. "
        "A recipe that you name is taken instead"
    )
    small = RECIPES["small"].config
    changes = {"data": "photos", "epochs": 3, "run_dir": "runs/photos-small"}
    assert config == small.model_copy(update=changes)
    assert resolved(data="./photos/")[0].run_dir == "runs/photos-small"
    config, (line,) = resolved(data="photos", run_dir="runs/mine")
    assert (config.recipe, config.run_dir) == ("small", "runs/mine") and "into" not in line
    config, said = resolved("moco-v2", data="photos")
    assert (config.recipe, config.run_dir, said) == ("moco-v2", None, [])
    assert resolved(data="cifar10")[0].run_dir == "runs/cifar10-demo"
    np.savez("digits.npz", images=np.zeros((5, 28, 28), np.uint8))
    config = resolved(data="digits.npz")[0]
    assert (config.recipe, config.image_size) == ("cifar10-demo", 28)
    assert config.run_dir == "runs/digits-cifar10-demo"


def test_shapes_are_the_default_in_their_own_folder(here):
    shapes = RECIPES["shapes"].config
    assert resolved() == (shapes, [])
    assert resolved(data="shapes") == (shapes, [])
    assert resolved(data="absent")[0] == shapes.model_copy(update={"data": "absent"})


def test_the_run_that_is_there_wins_over_what_the_data_have_become(here, monkeypatch):
    config, _ = resolved(data=photos())
    claim(config.run_dir, make_config(config, {"width": 8, "max_steps": 2, "epochs": 7}))
    monkeypatch.setattr(choice, "FEW_IMAGES", 5)  # as if the folder had grown
    again, (line,) = resolved(data="photos", log_every="3")
    expected = {"width": 8, "epochs": 7, "log_every": 3}  # but for the steps it had stopped after
    expected |= {"data_path": str(here / "photos")}
    assert again == config.model_copy(update=expected)
    assert line.startswith("runs/photos-small holds a run (recipe small), which goes on with its")
    other, (line,) = resolved(data=photos("elsewhere/photos"))
    assert (other.recipe, other.run_dir) == ("moco-v2", "runs/photos-moco-v2")
    assert line.startswith("recipe moco-v2, into runs/photos-moco-v2: elsewhere/photos holds 6 im")
    assert resolve_config(None, None, {"data": "photos"}, runs=False).recipe == "moco-v2"


def test_a_run_folder_alone_goes_on_with_the_runs_own_settings(here, monkeypatch):
    begun = make_config(RECIPES["moco-v2"].config, {"data": photos(), "batch_size": "64"})
    claim("run", begun.model_copy(update={"max_steps": 5}))
    own = read_config("run").model_copy(update={"run_dir": "run", "max_steps": None})
    assert (own.recipe, own.data, own.batch_size) == ("moco-v2", "photos", 64)
    assert resolved(run_dir="run")[0] == own
    assert resolved(run_dir="run", max_steps="9")[0] == own.model_copy(update={"max_steps": 9})
    assert resolved(run_dir="run", data="photos/")[0].batch_size == 64
    assert resolved("moco-v2", run_dir="run", data="photos")[0].batch_size == 256
    assert resolved(run_dir="absent")[0].recipe == "shapes"
    monkeypatch.chdir(here / "photos")  # the images of which are not in here
    assert resolved(run_dir="../run")[0].data == str(here / "photos")
    assert resolved(file="../run/config.json")[0].data == str(here / "photos")
    (here / "photos").rename(here / "moved")
    with pytest.raises(InputError, match=r"\.\./run was trained on data='photos', its own path"):
        resolved(run_dir="../run")
    assert resolved(run_dir="../run", data="../moved")[0].data == "../moved"


def test_the_config_of_a_run_is_a_config_file(here):
    changes = {"data": photos(), "queue_size": "128", "weight_decay": "1e-5"}
    claim("run", make_config(Config(), changes))
    begun = read_config("run")
    assert resolved(file="run/config.json") == (begun, [])
    assert resolved(file="run/config.json", epochs="3")[0] == begun.model_copy(update={"epochs": 3})
    with pytest.raises(InputError, match=r"recipe 'custom'; received recipe='small'"):
        resolved("small", "run/config.json")
    text = (here / "run" / "config.json").read_text()
    (here / "edited.json").write_text(text.replace('"queue_size": 128', '"queue_size": 256'))
    with pytest.raises(InputError, match=r"edited\.json is damaged.*take its last field, sha256"):
        resolved(file="edited.json")
    fields = json.loads(text)
    del fields["sha256"]
    (here / "edited.json").write_text(json.dumps(fields | {"queue_size": 256}))
    assert resolved(file="edited.json")[0] == begun.model_copy(update={"queue_size": 256})
    (here / "few.json").write_text('{"recipe": "small", "epochs": 3}')
    assert resolved(file="few.json")[0] == RECIPES["small"].config.model_copy(update={"epochs": 3})


def test_a_pack_tells_how_many_images_it_holds(here):
    from moco_tf.data.pack.write import pack

    pack(photos(count=12), choice.Path("photos.pack"))
    assert look("photos.pack") == Seen(12, 80)
    assert resolved(data="photos.pack")[0].run_dir == "runs/photos.pack-small"
    (here / "photos.pack" / PACK_INDEX).rename(here / "photos.pack" / PACK_BEGUN)
    assert look("photos.pack") == Seen()


def test_a_folder_is_looked_at_without_tensorflow(here):
    code = (
        "import sys; from moco_tf.api.settings import resolve_config\n"
        f"assert resolve_config(None, None, {{'data': {photos()!r}}}).recipe == 'small'\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lists_several_folders_and_records_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(6):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20 + number)).save(path)
    files = sorted(tmp_path.glob("?/*.png"))
    (tmp_path / "list.txt").write_text("\n".join(map(str, files[:5])))
    write_shards(tmp_path, [imagenet(path.read_bytes(), 1, "") for path in files], 2)
    assert choice.look(f"{tmp_path}/a,{tmp_path}/b") == (6, 22)
    assert choice.look(f"{tmp_path}/list.txt") == (5, 22)
    assert choice.look(f"tfrecord:{tmp_path}/train-*") == (6, 22)
    assert choice.look("tfrecord:no/such-*") is None and choice.look("object:list") is None
    names = [f"{tmp_path}/a,{tmp_path}/b", f"{tmp_path}/list.txt", f"tfrecord:{tmp_path}/train-*"]
    said = []
    folders = [
        choice.starting_point({"data": name}, runs=True, say=said.append)[1] for name in names
    ]
    expected = ["a-b", "list", re.sub(r"[^\w.-]+", "-", tmp_path.name).strip("-.")]
    assert folders == [f"runs/{name}-cifar10-demo" for name in expected]
    assert "holds" in said[0] or "has images of" in said[0]
