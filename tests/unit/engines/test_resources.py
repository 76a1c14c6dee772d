"""Which GPUs are found, and which worker gets what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines.resources import Allotment, Gpus, Shares, allot, find_gpus
from maggy.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def machine(root: Path, *, shown: int = 0, files: int = 0, amd: int = 0, render: int = 0) -> Path:
    """A file system with what drivers of this many GPUs put there."""
    for number in range(shown):
        (root / f"proc/driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)
    (root / "dev/dri").mkdir(parents=True)
    for number in range(files):
        (root / f"dev/nvidia{number}").touch()
    (root / "dev/nvidiactl").touch()
    for number in range(render):
        (root / f"dev/dri/renderD{128 + number}").touch()
    if amd:
        (root / "dev/kfd").touch()
        for number in range(amd + 1):  # node 0 is the processor
            node = root / f"sys/class/kfd/kfd/topology/nodes/{number}"
            node.mkdir(parents=True)
            (node / "gpu_id").write_text(f"{number * 1111}\n")
    return root


@pytest.mark.parametrize(
    ("shown", "files", "count"),
    [(0, 0, 0), (2, 2, 2), (2, 0, 2), (0, 2, 2), (8, 1, 1), (1, 8, 1)],
)
def test_nvidia_s_driver_is_counted(tmp_path: Path, shown: int, files: int, count: int) -> None:
    """The lower count where both are there: a container shows some of either."""
    found = find_gpus({}, root=machine(tmp_path, shown=shown, files=files))
    assert found.devices == tuple(str(index) for index in range(count))
    assert found.variables == ("CUDA_VISIBLE_DEVICES",)
    assert "CUDA_VISIBLE_DEVICES is not set" in found.source


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("0,1", ("0", "1")),
        (" 3 , 1 ", ("3", "1")),
        ("GPU-8932f937,MIG-GPU-a/1/0", ("GPU-8932f937", "MIG-GPU-a/1/0")),
        ("1,1,0", ("1", "0")),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("NoDevFiles", ()),
        ("2,7,1", ("2", "7", "1")),
    ],
)
def test_the_parent_s_list_is_kept_as_it_is(
    tmp_path: Path, text: str, devices: tuple[str, ...]
) -> None:
    """Names of any kind, in their order, up to the first that is none, as the driver reads it."""
    found = find_gpus({"CUDA_VISIBLE_DEVICES": text}, root=machine(tmp_path))
    assert found.devices == devices
    assert found.source == f"CUDA_VISIBLE_DEVICES is {text!r}"


def test_an_index_beyond_the_last_gpu_is_none(tmp_path: Path) -> None:
    """Where the driver can be asked, a list that was written for another machine is cut."""
    root = machine(tmp_path, shown=2)
    found = find_gpus({"CUDA_VISIBLE_DEVICES": "1,2,0"}, root=root)
    assert found.devices == ("1",)
    assert found.source == "CUDA_VISIBLE_DEVICES is '1,2,0', and the driver shows 2"


@pytest.mark.parametrize(
    ("environ", "devices"),
    [
        ({}, ("0", "1", "2")),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, ("2", "0")),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ("1",)),
        ({"HIP_VISIBLE_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "1"}, ("2",)),
        ({"ROCR_VISIBLE_DEVICES": "2,GPU-8f"}, ("0", "1")),
        ({"ROCR_VISIBLE_DEVICES": "2,1", "HIP_VISIBLE_DEVICES": "1"}, ("1",)),
        ({"ROCR_VISIBLE_DEVICES": ""}, ()),
    ],
)
def test_amd_s_gpus(tmp_path: Path, environ: dict[str, str], devices: tuple[str, ...]) -> None:
    """HIP counts anew what ROCR leaves, and reads CUDA's variable where its own is missing."""
    found = find_gpus(environ, root=machine(tmp_path, amd=3, render=4))
    assert found.devices == devices
    assert found.variables == ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


def test_amd_s_gpus_in_a_container(tmp_path: Path) -> None:
    """The topology shows all of them; those given to this container have a device file."""
    root = machine(tmp_path, amd=3, render=1)
    (root / "sys/class/kfd/kfd/topology/nodes/2/gpu_id").unlink()
    (root / "sys/class/kfd/kfd/topology/nodes/2/gpu_id").mkdir()  # cannot be read
    assert find_gpus({}, root=root).devices == ("0",)
    (root / "dev/kfd").unlink()
    assert find_gpus({}, root=root).devices == ()


def test_this_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments it is the process's own environment and the real file system."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert allot({"gpu": 1}, cores=8).shares == [("GPU-a",), ("GPU-b",)]


def gpus(*devices: str) -> Gpus:
    return Gpus(devices=devices, variables=("CUDA_VISIBLE_DEVICES",), source="they were invented")


@pytest.mark.parametrize(
    ("resources", "cores", "limit", "shares"),
    [
        ({"gpu": 1}, 1, 3, [("5",), ("7",), ("9",)]),
        ({"gpu": 2}, 1, 1, [("5", "7")]),
        ({"gpu": 3.0}, 1, 1, [("5", "7", "9")]),
        ({"gpu": 0.5}, 1, 6, [("5",), ("7",), ("9",)] * 2),
        ({"gpu": 1 / 3}, 1, 9, [("5",), ("7",), ("9",)] * 3),
        ({"cpu": 4}, 11, 2, []),
        ({"cpu": 1}, 2, 2, []),
        ({"gpu": 1, "cpu": 4}, 8, 2, [("5",), ("7",), ("9",)]),
        ({"cpu": 1, "gpu": 2}, 8, 1, [("5", "7")]),
    ],
)
def test_one_worker_for_each_share(
    resources: Any, cores: int, limit: int, shares: list[tuple[str, ...]]
) -> None:
    """GPUs in their order, shared ones in turn; the scarcer of GPUs and cores decides."""
    made = allot(resources, cores=cores, gpus=gpus("5", "7", "9"))
    assert made.limit == limit
    assert list(made.shares) == shares
    assert made.threads == resources.get("cpu")
    assert made.workers(None, 100) == limit
    assert made.workers(limit, 100) == limit
    with pytest.raises(ConfigError, match=f"`num_workers` is {limit + 1}.*has room for {limit}"):
        made.workers(limit + 1, 100)


def test_without_resources_nothing_is_limited() -> None:
    """Nobody looks for GPUs; a worker's environment stays what it was."""
    made = allot(None, cores=4, gpus=gpus())
    assert made == Allotment()
    assert (made.workers(None, 4), made.workers(64, 4)) == (4, 64)
    assert made.describe(4) is None
    assert made.notes(4) == []
    assert Shares(made).take("w0") == {}


@pytest.mark.parametrize(
    ("resources", "devices", "message"),
    [
        ({"gpu": 1}, (), "asks for 1 GPUs for each worker, but none were found: they were inv"),
        ({"gpu": 0.5}, (), r"asks for 0\.5 GPUs for each worker, but none were found"),
        ({"gpu": 2}, ("0",), "asks for 2 GPUs for each worker, but 1 was found"),
        ({"gpu": 4}, ("0", "1"), "but 2 were found.*CUDA_VISIBLE_DEVICES=0,1; or ask for less"),
        ({"cpu": 9}, (), "asks for 9 cores for each worker, but this process may use 8"),
        ({"cpu": 9, "gpu": 1}, ("0",), "9 cores"),
    ],
)
def test_what_is_not_there_is_said_at_once(
    resources: Any, devices: tuple[str, ...], message: str
) -> None:
    """What was asked for, what was found and how, and what to do."""
    with pytest.raises(ConfigError, match=message):
        allot(resources, cores=8, gpus=gpus(*devices))


def test_the_log_says_what_each_worker_got() -> None:
    """As many shares as there are workers, how they were found, and what was asked for."""
    made = allot({"gpu": 0.5, "cpu": 1}, cores=8, gpus=gpus("0", "1"))
    assert made.describe(3) == {
        "gpu": 0.5,
        "cpu": 1,
        "gpus": [["0"], ["1"], ["0"]],
        "found": "they were invented",
    }
    assert allot({"cpu": 2}, cores=8).describe(4) == {"cpu": 2}


@pytest.mark.parametrize(
    ("amount", "workers", "note"),
    [
        (1, 2, "GPUs, one worker's after the other's: 0; 1"),
        (2, 2, "GPUs, one worker's after the other's: 0 and 1; 2 and 3"),
        (0.5, 2, "GPUs, each for up to 2 workers: 0; 1"),
        (0.25, 16, "GPUs, each for up to 4 workers: 0; 1; 2; 3"),
    ],
)
def test_people_are_told_as_well(amount: float, workers: int, note: str) -> None:
    """A note at the start of the run, and in ``maggy show``."""
    made = allot({"gpu": amount}, cores=8, gpus=gpus("0", "1", "2", "3"))
    assert made.notes(workers) == [note]
    assert allot({"cpu": 2}, cores=8).notes(4) == []


def test_a_replacement_gets_what_its_predecessor_had() -> None:
    """No GPU is given twice, none is left idle, and each variable names the same devices."""
    made = Allotment(limit=3, shares=[("5",), ("7", "8"), ("9",)], variables=("A", "B"))
    shares = Shares(made)
    assert [shares.take(f"w{number}")["A"] for number in range(3)] == ["5", "7,8", "9"]
    shares.give_back("w1")
    shares.give_back("w1")
    assert shares.take("w3") == {"A": "7,8", "B": "7,8"}
    shares.give_back("w2")
    shares.give_back("w0")
    assert [shares.take(f"w{number}")["A"] for number in (4, 5)] == ["5", "9"]
