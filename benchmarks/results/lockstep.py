"""Ours and the twin on the same views, shuffles and first weights: the loss of every step.

    python benchmarks/results/lockstep.py --data ./cifar10 --steps 156 --json
    python benchmarks/results/lockstep.py --data ./cifar10 --steps 12 --precision float64

A second twin starts with weights that differ by 1e-7 of themselves: what rounding alone makes of
the loss. `ours` and `peer_nudged` should be equally far from `peer`. In float64 rounding stays
small for some twenty steps, and ours stays on the twin: in the loss, in every parameter, statistic
and key. Needs torch.
"""

import json
from unittest import mock

import numpy as np
import torch
import twin
from apart import Arrays, arrays_of
from same_start import put
from setting import parser, prepared

NUDGE = 1e-7
SIDES = ("ours", "peer", "peer_nudged")


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=156)
    options.add_argument("--precision", choices=("float32", "float64"), default="float32")
    options = options.parse_args()
    images, _, setting, _ = prepared(options)
    torch.set_default_dtype(getattr(torch, options.precision))
    losses, apart = together(images, setting | {"precision": options.precision}, options.steps)
    ours, peer, nudged = losses.T
    result = {
        "steps": options.steps,
        "mean_loss": dict(zip(SIDES, losses.mean(0).tolist(), strict=True)),
        "first_losses": losses[:8].tolist(),
        "largest_difference": float(np.abs(ours - peer).max()),
        "state_apart": apart,
        "mean_difference": {
            "ours": float(np.abs(ours - peer).mean()),
            "peer_nudged": float(np.abs(nudged - peer).mean()),
        },
    }
    print(json.dumps(result, indent=None if options.json else 2))


def together(images, setting: dict, steps: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns losses [steps, 3] of ours, the twin, and the nudged twin, and how far the state of
    ours is from the twin's at the end: of each part the largest relative difference of an array.
    """
    made = arrays_of("our_arrays", "training", str(images), setting, steps)
    start = next(made)
    twins = [_twin(start, setting) for _ in range(2)]
    with torch.no_grad():
        for parameter in twins[1].query.parameters():
            parameter.mul_(1 + NUDGE * torch.randn_like(parameter))
    losses = np.empty((steps, 3))
    for number in range(steps):
        ours = next(made)
        order = torch.from_numpy(ours["order"])
        losses[number, 0] = ours["loss"]
        for place, peer in enumerate(twins, start=1):
            peer.optimizer.param_groups[0]["lr"] = float(ours["lr"])
            with mock.patch.object(torch, "randperm", lambda *_, given=order, **__: given):
                losses[number, place] = float(peer.step(*torch.from_numpy(ours["views"]).unbind()))
    return losses, _apart(next(made), twins[0])


def _apart(end: Arrays, peer: twin.Twin) -> dict[str, float]:
    found = {"queue": _relative(end.pop("queue"), peer.queue.numpy().T)}
    for name, network in (("query", peer.query), ("key", peer.key)):
        theirs = {n: array.clone() for n, array in network.state_dict().items()}
        put(_called(end, f"{name}:"), network)  # ours, in the twin's layout
        ours = network.state_dict()
        for part in ("weights", "running"):
            names = [n for n in theirs if ("running_" in n) == (part == "running")]
            each = [_relative(ours[n].numpy(), theirs[n].numpy()) for n in names]
            found[f"{name}_{part}"] = max(each)
        network.load_state_dict(theirs)
    return found


def _called(arrays: Arrays, prefix: str) -> Arrays:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-30))


def _twin(start: Arrays, setting: dict) -> twin.Twin:
    peer = twin.Twin(setting)
    weights = {name: array for name, array in start.items() if name != "queue"}
    for network in (peer.query, peer.key):
        put(weights, network)
        network.train()
    peer.queue.copy_(torch.from_numpy(start["queue"].T.copy()))
    return peer


if __name__ == "__main__":
    main()
