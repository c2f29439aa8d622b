"""As a script: another one in two processes at once, which have imported what this one has.

python twice.py RANKED SCRIPT ARGUMENTS     RANKED: whether they are two ranks of a group
"""

import multiprocessing
import os
import runpy
import sys

from torch.distributed import TCPStore


def become(rank: int, environment: dict[str, str]) -> None:
    os.environ.update({name: value.format(rank=rank) for name, value in environment.items()})
    sys.argv = sys.argv[2:]
    # before it, this folder stays, for what the script shares with the tests
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    # held open here: a port that was found free and let go may be another process's by then
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = {
        "RANK": "{rank}",
        "LOCAL_RANK": "{rank}",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    fork, given = multiprocessing.get_context("fork"), ranks if sys.argv[1] == "True" else {}
    processes = [fork.Process(target=become, args=(rank, given)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in processes))
