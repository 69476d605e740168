"""Several processes, or micro-batches, give what one gives: real gloo groups, small models."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import ranked_training
import torch
from training_data import make_index, make_table

from geossl.config import make_config
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index
from geossl.errors import UsageError
from geossl.training.learner import Learner
from geossl.training.log import read_metrics
from geossl.training.ranks import ALONE, Ranks, joined

HERE = Path(__file__).parent
SMALL = {
    "epochs": 1,
    "batch": 16,
    "device": "cpu",
    "crop": {"size": 32},
    "optim": {"lr": 0.003},
    "model": {"backbone": "resnet18", "dim": 16, "momentum": 0.9, "temperature": 0.2},
}
TIMINGS = ("time", "images_per_sec", "loader_")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def data(folder):
    # A third of the places is unknown: some processes and micro-batches have no known one in some steps.
    lat = [None if i < 16 else float(i // 2) for i in range(48)]
    path = make_index(folder, make_table(48, lat=lat, lon=lat))
    cluster_places(Index.read(path), k=5, threads=1).write(default_path(path))
    return path


def case(data, name, arm, *, groups, world=1, accumulate=1, out=None, resume=None, stop=None, **changes):
    settings = SMALL | {"arm": arm, "data": str(data), "accumulate": accumulate, "save_steps": 1} | changes
    settings["out"] = str(data.parent / (out or f"{world} {name}"))
    settings["model"] = SMALL["model"] | {"bn_groups": groups}
    return {"name": name, "settings": settings, "resume": resume, **({"stop": stop} if stop else {})}


def grouped(cases, folder, *, world):
    """The cases' results from a group of processes."""
    path = folder / f"{world}.json"
    path.write_text(json.dumps(cases))
    script = HERE / "ranked_training.py"
    processes = [
        subprocess.Popen([sys.executable, script, path, str(rank), str(world)], stderr=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, "\n".join(errors)
    return torch.load(f"{path}.kept", weights_only=True)


CASES = {
    # name: arm, groups of batch normalisation, other settings, worlds that it is compared at
    "whole groups": ("geo_tp", 4, {}, (2, 4)),
    "all in one group": ("moco", 1, {}, (2, 4)),
    "a group over two": ("moco", 2, {}, (4,)),
    "two dates": ("tp", 2, {}, (2,)),
    "a vector": ("geo", 4, {"geo": {"target": "vector"}}, (2, 4)),
    "no infonce": ("geoloc", 4, {}, (2,)),
    "no projection": ("geoloc", 1, {"geo": {"feature": "backbone"}}, (4,)),
    "categories": ("supervised", 1, {}, (2,)),
}
ARMS = ("moco", "tp", "geo", "geo_tp", "geoloc", "supervised")


@pytest.fixture(scope="module")
def results(data, folder):
    """{world: {name: what a run left}}."""
    torch.set_num_threads(1)
    made = {world: run_all(data, folder, world=world) for world in (1, 2, 4)}
    made[1] |= ranked_training.run([case(data, "moved 3", "geo_tp", groups=4, out="moved", resume="auto")])
    return made


def run_all(data, folder, *, world):
    cases = [
        case(data, name, arm, groups=groups, world=world, **changes)
        for name, (arm, groups, changes, worlds) in CASES.items()
        if world in {1, *worlds}
    ]
    if world < 4:
        cases += [
            case(data, f"accumulate {parts}", "geo_tp", groups=4, world=world, accumulate=parts)
            for parts in (2, 4)
            if parts * world <= 4
        ]
        cases += [case(data, f"bf16 {arm}", arm, groups=2, world=world, precision="bf16", batch=24) for arm in ARMS]
        moved = {"groups": 4, "out": "moved", "resume": "auto"}
        cases.append(case(data, f"moved {world}", "geo_tp", world=world, stop=(world - 1, world), **moved))
    if world > 1:
        again = {"groups": 4, "world": world, "out": f"again {world}"}
        cases.append(case(data, "stopped", "geo_tp", stop=(world - 1, 2), **again))
        cases.append(case(data, "went on", "geo_tp", resume="auto", **again))
    return ranked_training.run(cases) if world == 1 else grouped(cases, folder, world=world)


def check_close(found, wanted):
    """Compare two steps' figures, and the weights after them: in the third, rounding has already grown."""
    assert len(found["rows"]) == len(wanted["rows"])
    for one, other in zip(found["rows"][:2], wanted["rows"], strict=False):
        assert one.keys() == other.keys()
        for name, value in other.items():
            if not name.startswith(TIMINGS):
                # A key's rank may turn at a rounding: an accuracy may differ by an image.
                assert one[name] == pytest.approx(value, rel=1e-3, abs=0.07 if name.endswith("acc") else 1e-4), name
    for step, rtol in ((1, 1e-4), (2, 5e-3)):
        for name, value in wanted["weights"].get(step, {}).items():
            if step == 2 and "momentum" in name:
                continue  # a gradient of weights that differ by rounding already
            near = rtol * value.abs().max().item()
            torch.testing.assert_close(found["weights"][step][name], value, rtol=0, atol=near, msg=f"{step} {name}")


@pytest.mark.parametrize(("world", "name"), [(world, name) for name, case in CASES.items() for world in case[3]])
def test_several_processes_learn_what_one_learns(results, world, name):
    check_close(results[world][name], results[1][name])


@pytest.mark.parametrize(("world", "parts"), [(1, 2), (1, 4), (2, 2)])
def test_micro_batches_learn_what_the_batch_learns(results, world, parts):
    check_close(results[world][f"accumulate {parts}"], results[1]["whole groups"])


@pytest.mark.parametrize("arm", ARMS)
def test_bf16_in_several_processes(results, arm):
    one, two = ([row["loss"] for row in results[world][f"bf16 {arm}"]["rows"]] for world in (1, 2))
    assert one[0] == pytest.approx(two[0], rel=2e-2)
    assert all(map(math.isfinite, one + two))


def test_it_is_said_what_a_step_is(results):
    text = results[2]["accumulate 2"]["text"]
    assert "16 images a step = 2 processes x 2 micro-batches x 4; learning rate 0.003 for the whole batch" in text
    assert "images a step =" not in results[1]["whole groups"]["text"]


@pytest.mark.parametrize("world", [2, 4])
def test_a_signal_to_one_process_stops_all_and_the_run_goes_on_bit_for_bit(results, world):
    stopped, went_on, straight = (results[world][name] for name in ("stopped", "went on", "whole groups"))
    assert stopped["steps"] == 2
    assert "going on after step 2" in went_on["text"]
    assert [row["loss"] for row in went_on["rows"]] == [row["loss"] for row in straight["rows"]]
    assert straight["weights"][3].keys() == went_on["weights"][3].keys()
    for name, value in straight["weights"][3].items():
        assert torch.equal(went_on["weights"][3][name], value), name


def test_a_run_goes_on_at_another_world_size(results):
    first, second, last = results[1]["moved 1"], results[2]["moved 2"], results[1]["moved 3"]
    assert [first["steps"], second["steps"], last["steps"]] == [1, 2, 3]
    check_close(last | {"weights": first["weights"] | second["weights"]}, results[1]["whole groups"])
    assert last["rows"][2]["loss"] == pytest.approx(results[1]["whole groups"]["rows"][2]["loss"], rel=1e-2)


def test_torchrun_restarts_a_killed_run_which_goes_on(planet, tmp_path):
    """The loader, the command line and the launcher are the real ones."""
    run = tmp_path / "run"
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
    ]
    settings = {
        "batch": 32,
        "epochs": 1,
        "save-steps": 2,
        "crop.size": 32,
        "model.backbone": "resnet18",
        "device": "cpu",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = ["train", "--recipe", "geo_tp", "--data", planet, "--out", run, "--resume", "auto", *options]
    done = subprocess.run(
        [*launch, HERE / "killed_rank.py", *command], check=False, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "going on after step 2" in done.stdout
    assert done.stdout.count("next: geossl probe") == 1  # the first process alone prints
    assert [row["step"] for row in read_metrics(run)] == [1, 2, 3, 4]
    assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["last.pt"]
    assert not (run / ".lock").exists()


@pytest.mark.parametrize(
    ("world", "settings", "message"),
    [
        (
            2,
            {"groups": 3, "batch": 12},
            r"3 groups cannot be seen by 2 processes x 1 .*a multiple of 2, or a divisor of 2",
        ),
        (1, {"groups": 1, "accumulate": 2}, r"1 groups cannot be seen by 1 processes x 2 .*use a multiple of 2"),
        (4, {"groups": 2, "accumulate": 2}, "use a multiple of 8"),
    ],
)
def test_groups_that_do_not_fit(data, world, settings, message):
    config = make_config(case(data, "none", "moco", **settings)["settings"], {"model": {"queue": 48}})
    with pytest.raises(UsageError, match=message):
        Learner(config, bands=3, classes=0, geo=None, ranks=Ranks(world=world))


def test_the_environment_says_who_takes_part(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as ranks:
        assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="RANK is not; start the processes with torchrun"), joined("cpu"):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="cuda:1 is one GPU"), joined("cuda:1"):
        pass


def test_keys_are_encoded_in_another_order_and_given_in_their_own():
    images, order = torch.rand(6, 3, 4, 4), torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.equal(ALONE.take(images, order), images[order])
