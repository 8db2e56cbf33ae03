"""`--precision auto`: what it becomes, and that a run keeps what it began with."""

import pytest
from support.runs import config as tiny_config

from moco_tf.building import precision, with_precision
from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.pretraining import pretrain
from moco_tf.runs.config_file import read_config

NEWER = "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 avx512vl\n\nprocessor\t: 1\n"
OLDER = NEWER.replace("avx512_bf16 ", "")


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Returns a function that makes this the machine of such a /proc/cpuinfo."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPU_INFO", file)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    return file.write_text


def settled():
    return with_precision(Config(precision="auto")).precision


@pytest.mark.parametrize(
    ("flags", "expected"), [(NEWER, "mixed_bfloat16"), (OLDER, "float32"), ("", "float32")]
)
def test_the_processor_decides(processor, flags, expected):
    processor(flags)
    assert settled() == expected


def test_float32_without_its_flags_without_onednn_and_on_a_gpu(processor, monkeypatch):
    assert settled() == "float32"  # no such file: not Linux
    processor(NEWER)
    with monkeypatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        assert settled() == "float32"
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [kind])
    assert settled() == "float32"


@pytest.mark.parametrize("given", ["float32", "float64", "mixed_float16"])
def test_what_is_given_stays(processor, given):
    processor(NEWER)
    assert with_precision(Config(precision=given)).precision == given


def test_a_run_keeps_the_precision_that_it_began_with(processor, tmp_path):
    def run(max_steps, **changes):
        return pretrain(tiny_config("shapes", tmp_path / "run", max_steps=max_steps, **changes))

    processor(NEWER)
    run(1, precision="auto")
    assert read_config(tmp_path / "run").precision == "mixed_bfloat16"
    processor(OLDER)
    run(2, precision="auto")
    assert read_config(tmp_path / "run").precision == "mixed_bfloat16"
    run(3, precision="mixed_bfloat16")
    with pytest.raises(InputError, match=r"precision \(mixed_bfloat16 there, float32 now\)"):
        run(4, precision="float32")
