"""How far a replay of MoCo v3 may be from the recording; see the reference's README."""

import numpy as np
from support.v3_replay import SLOTS

from moco_tf.models.torch_names import to_torch

# float32 gates: absolute, but relative of gradient norms, running statistics and slots. A few
# gradients may be off by 1e-3 where a ReLU or the max-pool switches sides; float64 decides then.
GATES = {
    "resnet": {
        **{"q": 5e-4, "k": 2e-4, "loss": 2e-5, "grad_l2": 1e-3},
        **{"mean": 1e-5, "var": 2e-5, "slot": 1e-3},
        **{"query 1-D": 6e-5, "query": 2e-6, "key 1-D": 1e-5, "key": 2e-6},
    },
    "vit": {
        **{"q": 4e-4, "k": 1e-4, "loss": 2e-5, "grad_l2": 2e-4},
        **{"mean": 4e-6, "var": 2e-5, "slot": 1e-3},
        **{"query 1-D": 3e-6, "query": 6e-6, "key 1-D": 3e-6, "key": 2e-6},
    },
}


def noise_driven(name, shape, width):
    """Elements whose gradient is rounding only, which AdamW makes steps of, and what follows them.

    LayerNorm's last shift is removed by the BatchNorm after it, and softmax does not see the keys'
    bias.
    """
    noise = np.zeros(shape, bool)
    if ".attn.qkv.bias" in name:
        noise[width : 2 * width] = True
    elif "encoder.norm.bias" in name or name.endswith("head.1.running_mean"):
        noise[:] = True
    return noise


class Checks:
    """Compares what a replay gives with what was recorded; collects what is off.

    In float64 that is the float64 run; nearly all of it was rounded to float32 for storage.
    """

    def __init__(self, replay):
        self.replay, self.off = replay, []
        self.double = replay.dtype == "float64"
        self.width = replay.config["width"]
        self.gates = GATES[replay.config["kind"]]
        self.prefix = "fp64/" if self.double else ""

    def outputs(self, step, details):
        trace = self.replay.trace
        for kind, arrays in (("q", details["queries"]), ("k", details["keys"])):
            for number, array in enumerate(arrays, 1):
                self._stored(
                    kind,
                    f"{kind}{number}",
                    step,
                    array,
                    trace[self.prefix + f"{kind}{number}"][step],
                )
        terms = details["losses"].mean(axis=1)
        for name, value in (("loss", terms.sum()), ("loss_terms", terms)):
            recorded = trace[self.prefix + name][step]
            error = np.max(np.abs(value - recorded))
            self._note("loss", step, error, 1e-12 if self.double else self.gates["loss"])
        norms = dict(
            zip(trace["trainable_names"], trace[self.prefix + "grad_l2"][step], strict=True)
        )
        assert norms.keys() == set(self.replay.parameter_names)
        for name, gradient in zip(self.replay.parameter_names, details["gradients"], strict=True):
            if trace["fp64/grad_l2"][step][list(trace["trainable_names"]).index(name)] > 1e-9:
                error = abs(np.linalg.norm(gradient) / norms[name] - 1)
                self._note(
                    f"grad_l2 {name}", step, error, 1e-9 if self.double else self.gates["grad_l2"]
                )

    def state(self, number):
        """After so many steps."""
        trace, ours = self.replay.trace, self.replay.state()
        prefix = f"{self.prefix}step{number}/"
        for name in ours:
            if prefix + name not in trace.files:
                continue
            recorded, found = trace[prefix + name].astype(np.float64), ours[name]
            leaf, side = name.rsplit(".", 1)[1], "key" if name.startswith("mom") else "query"
            kind = f"{side} 1-D" if recorded.ndim == 1 else side
            if not self.double and leaf == "running_mean":
                kind, scale = "mean", np.sqrt(trace[prefix + name[:-4] + "var"])
                found, recorded = found / scale, recorded / scale
            elif not self.double and leaf == "running_var":
                kind, found, recorded = "var", found / recorded, np.ones_like(recorded)
            self._stored(kind, name, number, found, recorded)

    def slots(self, number):
        """After so many steps, where they are recorded."""
        prefix = f"{self.prefix}step{number}_opt/"
        optimizer = self.replay.method.envelope.optimizer
        for slot, recorded in SLOTS[self.replay.config["opt"]].items():
            for name, variable in zip(
                self.replay.parameter_names, optimizer.slots[slot], strict=True
            ):
                array = f"{prefix}{name}/{recorded}"
                if array not in self.replay.trace.files:
                    continue
                wanted, found = self.replay.trace[array], to_torch(variable.numpy())
                largest = 1.0 if self.double else max(np.max(np.abs(wanted)), 1e-30)
                self._stored("slot", f"{name}/{slot}", number, found, wanted, largest)

    def _stored(self, kind, name, step, found, recorded, scale=1.0):
        gate = max(1e-7 * np.max(np.abs(recorded)), 1e-12) if self.double else self.gates[kind]
        error, noise = np.abs(found - recorded), noise_driven(name, recorded.shape, self.width)
        self._note(f"{kind}: {name}", step, np.max(error[~noise], initial=0) / scale, gate)
        if self.double:
            self._note(f"{kind}: {name}", step, np.max(error[noise], initial=0), max(gate, 1e-9))

    def _note(self, name, step, error, gate):
        if not error <= gate:
            self.off.append(f"{name}, step {step}: {error:.2g} > {gate:.2g}")
