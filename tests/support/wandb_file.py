"""What Weights & Biases has written offline, read from its own file."""

import json

_BLOCK, _HEADER, _FIRST = 32768, 7, 7  # bytes: of a block, a record's header, the file's


def _records(data):
    """The file is a log of LevelDB: blocks of pieces, of which the types say how they join."""
    place, joined = _FIRST, b""
    while place + _HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        joined += data[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size
        if kind in (1, 4):  # whole, or the last piece
            yield joined
            joined = b""


def read(folder):
    """Returns the rows, config, summary, name and project of each offline run below `folder`."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        run = {"id": path.stem.removeprefix("run-"), "rows": [], "config": {}, "summary": {}}
        for data in _records(path.read_bytes()):
            record = Record.FromString(data)
            items = {"history": record.history.item, "summary": record.summary.update}
            if record.HasField("run"):
                run |= {"name": record.run.display_name, "project": record.run.project}
                updates = record.run.config.update
                run["config"] |= {one.key: json.loads(one.value_json) for one in updates}
            elif record.WhichOneof("record_type") in items:
                values = {
                    one.key or one.nested_key[0]: json.loads(one.value_json)
                    for one in items[record.WhichOneof("record_type")]
                }
                if record.HasField("history"):
                    run["rows"].append({k: v for k, v in values.items() if k[0] != "_"})
                else:
                    run["summary"] |= values
        runs.append(run)
    return runs
