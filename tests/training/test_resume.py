"""Where a run goes on, what it keeps, and what it refuses; test_chaos.py has the real loader and real kills."""

import fcntl
import io
import json
import os
import signal
import time

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_engine import cluster, load, same, send_signal
from training_data import FakeLoader, make_index, use_loader

from geossl.config import make_config
from geossl.errors import GeosslError, UsageError
from geossl.files import OutOfSpaceError, free_bytes
from geossl.models.weights import CHECKPOINT
from geossl.training import checkpoint, folder, train
from geossl.training.log import RunLog, read_metrics
from geossl.training.signals import ECHO_SECS, StopRequest

SMALL = {
    "arm": "geo_tp",
    "epochs": 2,
    "batch": 16,
    "device": "cpu",
    "save_steps": 1,
    "crop": {"size": 32},
    "model": {"backbone": "timm/test_resnet", "dim": 16},
}  # 3 steps an epoch


SAVE = checkpoint.save


@pytest.fixture(autouse=True)
def loader(monkeypatch):
    made = type("Loader", (FakeLoader,), {})
    use_loader(monkeypatch, made)
    return made


@pytest.fixture
def data(tmp_path):
    path = make_index(tmp_path)
    cluster(path)
    return path


def run(data, name="run", *, resume=None, **settings):
    config = make_config(SMALL, {"data": data, "out": data.parent / name}, settings)
    console = Console(file=io.StringIO(), width=300)
    try:
        return train(config, resume=resume, console=console), console.file.getvalue()
    except GeosslError as e:
        e.add_note(console.file.getvalue())
        raise


def stop(data, monkeypatch, name="run", *, at, **settings):
    """Begin a run and stop it after a step."""
    with monkeypatch.context() as patch:
        send_signal(patch, signal.SIGTERM, at=at)
        return run(data, name, **settings)[0]


def names(result):
    return sorted(path.name for path in (result.run / CHECKPOINT).parent.iterdir())


def step_of(file):
    return torch.load(file, weights_only=True)["geossl"]["step"]


def damage(file, *, at=0.5):
    """Turn one bit of a file."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * at)] ^= 1
    file.write_bytes(content)


# What is kept


def test_the_last_checkpoints_are_kept(data):
    result, _ = run(data, keep=3)
    assert names(result) == ["last.pt", "step-00000004.pt", "step-00000005.pt"]
    folder = (result.run / CHECKPOINT).parent
    assert [step_of(folder / name) for name in names(result)] == [6, 4, 5]
    straight, _ = run(data, "straight")
    assert same(load(result)["state_dict"], load(straight)["state_dict"])


def test_fewer_are_kept_from_now_on(data, monkeypatch):
    assert names(stop(data, monkeypatch, at=4, keep=3)) == ["last.pt", "step-00000002.pt", "step-00000003.pt"]
    assert names(run(data, resume="auto")[0]) == ["last.pt"]


def test_a_kept_checkpoint_is_not_written_again(data, monkeypatch):
    written = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: (written.append(1), save(content, file)))
    inodes = []
    log_step = RunLog.step

    def step(log, count, **rest):
        log_step(log, count, **rest)
        last = log._path.parent / CHECKPOINT
        inodes.append(last.stat().st_ino if last.exists() else None)

    monkeypatch.setattr(RunLog, "step", step)
    result, _ = run(data, keep=2)
    assert len(written) == 6
    assert (result.run / "checkpoints" / "step-00000005.pt").stat().st_ino == inodes[5]


def test_without_hard_links_checkpoints_are_copied(data, monkeypatch):
    def link(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    result, _ = run(data, keep=2)
    assert [step_of(result.run / "checkpoints" / name) for name in names(result)] == [6, 5]


def best_at(monkeypatch, accuracies):
    """Have every step's checkpoint saved as of these accuracies."""

    def saved(state, **_):
        SAVE(state, best=state.improves(accuracies[state.step - 1]))

    monkeypatch.setattr(checkpoint, "save", saved)


def test_the_best_is_kept(data, monkeypatch):
    best_at(monkeypatch, [0.1, 0.5, None, 0.4, 0.5, 0.2])
    result, _ = run(data)
    assert names(result) == ["best.pt", "last.pt"]
    assert step_of(result.run / "checkpoints" / "best.pt") == 2
    assert load(result)["geossl"]["best"] == 0.5


def test_the_best_survives_interruptions(data, monkeypatch):
    best_at(monkeypatch, [0.1, 0.5, 0.3, 0.4, 0.6, 0.2])
    stopped = stop(data, monkeypatch, at=3)
    assert step_of(stopped.run / "checkpoints" / "best.pt") == 2
    stop(data, monkeypatch, at=4, resume="auto")
    assert step_of(stopped.run / "checkpoints" / "best.pt") == 2
    run(data, resume="auto")
    assert step_of(stopped.run / "checkpoints" / "best.pt") == 5


def test_a_best_of_a_later_step_is_dropped_on_going_back(data, monkeypatch):
    best_at(monkeypatch, [0.1, 0.2, 0.9, 0.8, 0.3, 0.2])
    stopped = stop(data, monkeypatch, at=4, keep=3)
    back = stopped.run / "checkpoints" / "step-00000002.pt"
    # From here on there is no better one: what is measured next is the best that there is.
    best_at(monkeypatch, [None, None, 0.15, 0.1, 0.05, 0])
    run(data, resume=back, keep=3)
    assert step_of(stopped.run / "checkpoints" / "best.pt") == 3


# Where it goes on


def test_back_to_an_earlier_step(data):
    result, _ = run(data, keep=5)
    straight = load(result)
    again, text = run(data, resume=result.run / "checkpoints" / "step-00000003.pt", keep=5)
    assert "going on after step 3; the rows and checkpoints of later steps are dropped" in text
    assert [row["step"] for row in read_metrics(again.run)] == [1, 2, 3, 4, 5, 6]
    assert names(again) == ["last.pt", *(f"step-0000000{i}.pt" for i in range(2, 6))]
    assert same(load(again)["state_dict"], straight["state_dict"])
    board = EventAccumulator(str(again.run / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_what_was_dropped_is_gone_before_the_next_step(data, monkeypatch):
    result, _ = run(data, keep=5)
    back = result.run / "checkpoints" / "step-00000003.pt"
    stopped = stop(data, monkeypatch, at=4, resume=back, keep=5)
    assert names(stopped) == ["last.pt", "step-00000002.pt", "step-00000003.pt"]
    assert [row["step"] for row in read_metrics(stopped.run)] == [1, 2, 3, 4]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_another_run_begins_at_a_checkpoint(data, monkeypatch, what):
    first = stop(data, monkeypatch, "first", at=4)
    before = {path: path.stat().st_mtime_ns for path in first.run.rglob("*")}
    source = first.run / CHECKPOINT if what == "file" else first.run
    result, text = run(data, "second", resume=source)
    assert f"begins at step 4 of {first.run / CHECKPOINT}" in text
    assert [row["step"] for row in read_metrics(result.run)] == [5, 6]
    assert {path: path.stat().st_mtime_ns for path in first.run.rglob("*")} == before
    straight, _ = run(data, "straight")
    assert same(load(result)["state_dict"], load(straight)["state_dict"])
    with pytest.raises(UsageError, match=r"second: exists already; to begin a new run at .*, use another --out"):
        run(data, "second", resume=source)


def test_a_run_that_has_just_begun_at_another_ones_checkpoint_goes_on(data, monkeypatch):
    first = stop(data, monkeypatch, "first", at=4)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("geossl.training.engine.fit", killed)
        with pytest.raises(KeyboardInterrupt):
            run(data, "second", resume=first.run)
    result, text = run(data, "second", resume="auto")
    assert "going on after step 4" in text
    assert result.finished


def test_a_finished_run_cannot_be_gone_on_with_elsewhere(data):
    first, _ = run(data, "first")
    with pytest.raises(UsageError, match=r"its run is finished, and there is nothing to go on with"):
        run(data, "second", resume=first.run)
    assert not (data.parent / "second").exists()


@pytest.mark.parametrize("how", ["cut", "bit", "missing"])
def test_the_newest_whole_checkpoint_is_found(data, monkeypatch, how):
    stopped = stop(data, monkeypatch, at=5, keep=3)
    last = stopped.run / CHECKPOINT
    if how == "missing":
        last.unlink()
    elif how == "cut":
        os.truncate(last, last.stat().st_size // 2)
    else:
        damage(last)  # torch.load does not notice
        torch.load(last, weights_only=True)
    damage(last.with_name("step-00000004.pt"))
    result, text = run(data, resume="auto", keep=3)
    assert f"last.pt is {'missing' if how == 'missing' else 'damaged'}; step-00000003.pt is whole" in text
    assert "going on after step 3" in text
    straight, _ = run(data, "straight")
    assert same(load(result)["state_dict"], load(straight)["state_dict"])


def test_damaged_checkpoints_alone_are_refused(data, monkeypatch):
    stopped = stop(data, monkeypatch, at=3)
    damage(stopped.run / CHECKPOINT)
    with pytest.raises(UsageError, match=r"last\.pt: damaged \(the checksum of .* is wrong\); no whole one is kept"):
        run(data, resume="auto")
    with pytest.raises(UsageError, match=r"last\.pt: damaged \(the checksum of .* is wrong\)"):
        run(data, resume=stopped.run / CHECKPOINT)


def test_other_checkpoints_are_refused(data, monkeypatch):
    stopped = stop(data, monkeypatch, at=1)
    saved = load(stopped)
    saved["geossl"] |= {"format": 9, "version": "7.1"}
    torch.save(saved, stopped.run / CHECKPOINT)
    with pytest.raises(UsageError, match=r"last\.pt: written by geossl 7\.1 \(format 9\), and this is"):
        run(data, resume="auto")
    del saved["geossl"]
    torch.save(saved, data.parent / "moco.pth.tar")
    with pytest.raises(UsageError, match=r"moco\.pth\.tar: not written by geossl.*start from its weights"):
        run(data, "other", resume=data.parent / "moco.pth.tar")
    with pytest.raises(UsageError, match=r"nothing: no such run or checkpoint"):
        run(data, "other", resume=data.parent / "nothing")
    (data.parent / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: no checkpoint in it"):
        run(data, "other", resume=data.parent / "empty")
    assert not (data.parent / "other").exists()


# Settings that have changed


def test_settings_that_change_no_bit_may_change(data, monkeypatch):
    stop(data, monkeypatch, at=2)
    result, text = run(data, resume="auto", save_steps=0, keep=2, loader={"threads": 3})
    assert "was" not in text
    straight, _ = run(data, "straight")
    assert same(load(result)["state_dict"], load(straight)["state_dict"])


def test_settings_that_change_rounding_may_change_and_are_told(data, monkeypatch):
    # Two steps are left: in more, an activation that rounding brings to the other side of 0 may move weights by 1e-3.
    stop(data, monkeypatch, at=4)
    result, text = run(data, resume="auto", accumulate=2)
    assert "accumulate: was 1, now 2; results may differ by rounding" in text
    straight, _ = run(data, "straight")
    for name, value in load(straight)["state_dict"].items():
        if name.endswith("num_batches_tracked"):
            continue  # counts micro-batches
        torch.testing.assert_close(load(result)["state_dict"][name], value, rtol=1e-3, atol=1e-4)


def test_a_run_that_an_unreadable_image_ended_may_go_on_without_it(data, monkeypatch):
    stop(data, monkeypatch, at=2)
    _, text = run(data, resume="auto", loader={"on_error": "substitute"})
    assert "loader.on_error: was raise, now substitute" in text
    with pytest.raises(UsageError, match=r"changed settings \(loader\.on_error\)"):
        run(data, resume="auto", loader={"on_error": "skip"})


def test_weights_to_start_from_are_not_read_again(data, monkeypatch):
    torch.save(load(stop(data, monkeypatch, "first", at=1)), data.parent / "weights.pth")
    stop(data, monkeypatch, at=2, init_from=data.parent / "weights.pth")
    (data.parent / "weights.pth").unlink()
    for words in ({}, {"init_from": data.parent / "other.pth"}):
        _, text = run(data, resume="auto", **words)
        assert ("other.pth is not read: the run goes on with its own weights" in text) == bool(words)
        saved = load(run(data, resume="auto", **words)[0])
        assert saved["geossl"]["config"]["init_from"] == str(data.parent / "weights.pth")


# One job a folder


def test_a_second_job_is_refused(data, monkeypatch):
    log_step = RunLog.step

    def step(log, count, **rest):
        log_step(log, count, **rest)
        if count == 2:
            for resume in ("auto", None):
                with pytest.raises(UsageError, match=rf"run: process {os.getpid()} on .* is training in it"):
                    run(data, resume=resume)

    monkeypatch.setattr(RunLog, "step", step)
    result, _ = run(data)
    assert result.finished
    assert not list(result.run.glob(".*"))


def test_a_dead_job_holds_nothing(data):
    (data.parent / "run").mkdir()
    (data.parent / "run" / ".lock").write_text("process 1 on elsewhere, and a longer text than ours")
    assert run(data, epochs=1)[0].finished


def test_a_file_system_without_locks(data, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    result, text = run(data, epochs=1)
    assert "has no locks (No locks available): nothing keeps two jobs from writing to it" in text
    assert result.finished


def test_what_killed_processes_left_is_removed(data, monkeypatch):
    stopped = stop(data, monkeypatch, at=2)
    left = [".metrics.jsonl.tmp", "checkpoints/.last.pt.tmp", "checkpoints/.best.pt.tmp"]
    for name in left:
        (stopped.run / name).write_bytes(b"half")
    run(data, resume="auto")
    assert not any((stopped.run / name).exists() for name in left)


# A full disk


def fill(name, monkeypatch, *, at):
    """From a step on, the run's file `name` meets a full device."""
    log_step = RunLog.step

    def step(log, count, **rest):
        if count == at:
            old = log._file if name == "metrics.jsonl" else log._board._file
            old.close()
            full = open("/dev/full", "w" if name == "metrics.jsonl" else "wb")  # noqa: PTH123, SIM115
            if name == "metrics.jsonl":
                log._file = full
            else:
                log._board._file = log._board._records._writer = full
        log_step(log, count, **rest)

    monkeypatch.setattr(RunLog, "step", step)


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_a_disk_that_is_full_for_figures(data, monkeypatch, name):
    straight, _ = run(data, "straight")
    with monkeypatch.context() as patch:
        fill(name, patch, at=3)
        with pytest.raises(OutOfSpaceError, match=rf"{name}.*: cannot be written: no space left on device; .* free"):
            run(data)
    stopped = data.parent / "run"
    assert step_of(stopped / CHECKPOINT) == 2
    result, _ = run(data, resume="auto")
    assert [row["step"] for row in read_metrics(stopped)] == [1, 2, 3, 4, 5, 6]
    assert same(load(result)["state_dict"], load(straight)["state_dict"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk; test_chaos.py has full devices")
def test_a_small_disk(data, tmp_path, monkeypatch):
    size = run(data, "straight", epochs=1)[0].run.joinpath(CHECKPOINT).stat().st_size
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size={3 * size} tmpfs {disk} 2>/dev/null"):  # noqa: S605
        pytest.skip("nothing may be mounted here")
    try:
        save = checkpoint.save

        def saved(state, **rest):
            if state.step == 3:
                (disk / "ballast").write_bytes(bytes(free_bytes(disk) - size // 2))
            save(state, **rest)

        monkeypatch.setattr(checkpoint, "save", saved)
        with pytest.raises(OutOfSpaceError) as e:
            run(data, "disk/run")
        assert "last.pt: cannot be written: no space left on device; " in str(e.value)
        assert "MiB needed, " in str(e.value)
        assert "the checkpoint of step 2 stands; make room, and go on with --resume auto" in str(e.value)
        assert [path.name for path in (disk / "run" / "checkpoints").iterdir()] == ["last.pt"]
        with pytest.raises(OutOfSpaceError, match=r"run: 2 checkpoints of .* need .* MiB more, and .* are free"):
            run(data, "disk/run", resume="auto")
        (disk / "ballast").unlink()
        monkeypatch.setattr(checkpoint, "save", save)
        assert run(data, "disk/run", resume="auto")[0].finished
    finally:
        os.system(f"umount {disk}")  # noqa: S605


def test_the_room_is_checked_before_the_first_step(data, monkeypatch):
    size = run(data, "straight", epochs=1)[0].run.joinpath(CHECKPOINT).stat().st_size
    monkeypatch.setattr(folder, "free_bytes", lambda _: 4 * size)
    run(data, "fits", epochs=1)
    with pytest.raises(OutOfSpaceError, match=r"tight: 5 checkpoints of .* need .* MiB more.*keep fewer \(--keep\)"):
        run(data, "tight", epochs=1, keep=4)
    assert not (data.parent / "tight").exists()


def test_a_disk_that_gets_short_is_told_once(data, monkeypatch):
    size = run(data, "straight", epochs=1)[0].run.joinpath(CHECKPOINT).stat().st_size
    free = iter([9 * size, 3 * size, size, size, size, size, size])
    monkeypatch.setattr(folder, "free_bytes", lambda _: next(free))
    _, text = run(data)
    assert text.count("warning: ") == 1
    assert "MiB are free, and each checkpoint takes" in text


@pytest.mark.parametrize("arm", ["geo_tp", "supervised"])
def test_the_size_is_known_before_the_first_step(data, monkeypatch, arm):
    sizes = []
    room = folder.Room.__init__

    def noted(self, run, *, size, **rest):
        sizes.append(size)
        room(self, run, size=size, **rest)

    monkeypatch.setattr(folder.Room, "__init__", noted)
    result, _ = run(data, arm=arm, epochs=1)
    assert (result.run / CHECKPOINT).stat().st_size == pytest.approx(sizes[0], rel=0.1)


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_after_the_step(data, monkeypatch, number):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        send_signal(patch, number, at=2)
        result, text = run(data, save_steps=0)
    assert (result.steps, result.finished) == (2, False)
    assert f"stopped by {number.name} and saved; go on with --resume auto" in text
    assert step_of(result.run / CHECKPOINT) == 2
    assert signal.getsignal(number) is before


@pytest.fixture
def _own_interrupt():
    """Ctrl-C as Python has it, whatever handler an earlier test's library has left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_own_interrupt")
def test_a_second_signal_acts_at_once(monkeypatch):
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # a launcher passes it on, too
        assert stop.signal == signal.SIGINT
        later = time.monotonic() + ECHO_SECS
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


# What is known of the images


def test_unreadable_images_are_on_the_disk_before_the_checkpoint(data, loader, monkeypatch):
    loader.unreadable = [("a.jpg", "cut short")]
    listed = []
    save = checkpoint.save

    def saved(state, **rest):
        file = state.config.out / "failures.jsonl"
        listed.append([json.loads(line)["path"] for line in file.read_text().splitlines()])
        loader.unreadable = [("b.jpg", "cut short")]
        save(state, **rest)

    monkeypatch.setattr(checkpoint, "save", saved)
    stop(data, monkeypatch, at=1)
    loader.unreadable = [("b.jpg", "cut short")]
    run(data, resume="auto", epochs=2)
    assert listed[0] == ["a.jpg"]
    assert listed[-1] == ["a.jpg", "b.jpg"]
