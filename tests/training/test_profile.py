"""A profile is taken within a run, which goes on as if it were not."""

import io
import json
import time

import pytest
import torch
from rich.console import Console
from training_data import FakeLoader, make_index, use_loader

from geossl import phases
from geossl.config import make_config
from geossl.models.weights import CHECKPOINT
from geossl.phases import PHASES, phase
from geossl.training import profile, train


@pytest.fixture
def data(tmp_path, monkeypatch):
    use_loader(monkeypatch, FakeLoader)
    return make_index(tmp_path)


def run(data, name, *, steps, epochs):
    model = {"backbone": "resnet18", "dim": 16}
    settings = {"arm": "moco", "epochs": epochs, "batch": 16, "device": "cpu", "crop": {"size": 16}, "model": model}
    config = make_config(settings, {"data": data, "out": data.parent / name})
    console = Console(file=io.StringIO(), width=200)
    result = train(config, profile=steps, console=console)
    assert phases._recorder is None
    state = torch.load(result.run / CHECKPOINT, weights_only=True)["state_dict"]
    return result, state, console.file.getvalue()


def rows(table):
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")][2:]
    return {name: (float(ms.replace(",", "")), float(share.rstrip("%"))) for name, ms, share in cells}


def test_steps_are_timed_and_traced_and_the_run_goes_on(data):
    result, state, text = run(data, "profiled", steps=2, epochs=3)
    _, plain, _ = run(data, "plain", steps=0, epochs=3)
    assert result.steps == 9
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    table = (result.run / "profile" / "table.md").read_text()
    assert table in text
    assert table.startswith("moco: resnet18 at 16 pixels, fp32 on cpu; 2 steps of 16 images, ")
    found = rows(table)
    assert list(found) == [*PHASES, "other", "all"]
    assert found["upload"] == (0, 0), "there is nothing to copy on a CPU"
    assert all(found[name][0] > 0 for name in set(PHASES) - {"upload", "checkpoint"})
    *parts, whole = found.values()
    assert sum(ms for ms, _ in parts) == pytest.approx(whole[0], abs=0.06)
    trace = json.loads((result.run / "profile" / "trace.json").read_text())
    names = [event.get("name") for event in trace["traceEvents"] if event.get("cat") == "user_annotation"]
    assert names.count("backward") == 2
    assert set(PHASES) - {"upload", "checkpoint"} <= set(names)


def test_what_a_short_run_has_is_written(data):
    result, _, text = run(data, "short", steps=5, epochs=2)
    assert "; 3 steps of 16 images, " in (result.run / "profile" / "table.md").read_text()
    assert not (result.run / "profile" / "trace.json").exists()
    result, _, text = run(data, "shorter", steps=5, epochs=1)
    assert "profile: 3 steps were left, and the first 3 only warm up" in text
    assert not (result.run / "profile").exists()


def test_an_inner_phase_is_not_the_outer_ones():
    clock = profile._Clock(torch.device("cpu"))
    phases.record(clock.phase)
    try:
        with phase("forward"):
            time.sleep(0.02)
            with phase("momentum update"):
                time.sleep(0.04)
    finally:
        phases.record(None)
    secs = clock.stop()
    assert secs["momentum update"] >= 0.04
    assert secs["forward"] >= 0.02
    assert secs["forward"] + secs["momentum update"] + secs["other"] == sum(secs.values())


def test_a_phase_is_a_decorator_that_passes_on():
    seen = []

    @phase("optimizer")
    def doubled(x):
        seen.append(phases._recorder)
        return 2 * x

    assert (doubled(3), seen) == (6, [None])
