"""A worker: one of several processes on this machine that do a stage's work together, as `launching` has ordered it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

from gemtune.errors import GemtuneError
from gemtune.pipeline.launching import MESSAGES, ORDER
from gemtune.pipeline.orders import obey


def main(host: str, port: int) -> None:
    """Does what the order in the store says; messages go there, too. Exit code 2: refused, 1: a bug."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's, which then ends its workers
    _end_with(os.getppid())
    rank, count, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    _see_one_gpu(local_rank)

    from torch.distributed import PrefixStore, TCPStore

    from gemtune.pipeline import stages
    from gemtune.training import ranks

    store = TCPStore(host, port, is_master=False)
    order = store.get(ORDER).decode()
    values = json.loads(order)

    def send(kind: str, value: Any) -> None:
        store.queue_push(MESSAGES, json.dumps({"kind": kind, "value": value}))

    try:
        with ranks.together(PrefixStore("ranks", store), rank, count, values["device"]):
            obey(order, stages.SHARED[values["work"]], send)
    except GemtuneError as error:  # it was sent
        sys.exit(error.exit_code)
    except Exception:  # the parent raises it again
        send("bug", traceback.format_exc())
        sys.exit(1)


def _see_one_gpu(local_rank: int) -> None:
    """Of the GPUs that the parent sees, this worker sees its own alone, which is then the first everywhere."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else []
    os.environ["CUDA_VISIBLE_DEVICES"] = names[local_rank] if local_rank < len(names) else str(local_rank)


def _end_with(parent: int) -> None:
    """Ends this process when its parent has died without ending it: nobody would hear from it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
