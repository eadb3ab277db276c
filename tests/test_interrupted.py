"""A full disk or a signal in the middle of the work: one sentence, and nothing half-written stays."""

import os
import resource
import signal
import time

import numpy as np
import pytest

import caesar_freq
from caesar_freq import api, cli
from caesar_freq.codec.container import Container
from caesar_freq.data.parts import write_parts
from caesar_freq.transfer import select


@pytest.fixture
def fails(capsys, tmp_path, monkeypatch):
    """Run a command that must fail; returns its exit code and the sentence it printed."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).standard_normal((32, 64, 80)).astype(np.float32)
    np.save("x.npy", noise)
    with open("x.cfq", "wb") as stream:
        stream.write(caesar_freq.encode(noise, bound=0.1, effort=0))

    def call(line):
        before = set(os.listdir())
        with pytest.raises(SystemExit) as stop:
            cli.main(line.split())
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1
        assert set(os.listdir()) == before, "it left something behind"
        return stop.value.code, err

    return call


@pytest.fixture
def little_room():
    """Files may not grow beyond 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "line",
    ["decompress x.cfq o.npy", "decompress x.cfq o.npz", "decompress x.cfq o.nc",
     "compress x.npy o.cfq --mode lossless"],
)  # fmt: skip
def test_a_file_that_finds_no_room_is_named(fails, little_room, line):
    code, said = fails(line)
    assert code == 2 and f"cannot write {line.split()[2]}: " in said and "make room" in said


def test_a_disk_error_at_the_last_moment_is_one_sentence(fails, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device", "o.cfq")

    monkeypatch.setattr(os, "replace", refuse)
    code, said = fails("compress x.npy o.cfq --effort 0")
    assert code == 2 and "cannot write o.cfq: No space left on device" in said


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_room_is_claimed_before_values_are_decoded(tmp_path, suffix):
    """Else a full disk shows as SIGBUS of a mapping, which nobody can catch."""
    x = np.zeros((8, 64, 64), np.float32)
    with_header = Container(caesar_freq.encode(x))

    def parts():
        (array,) = tmp_path.rglob("*.npy")
        assert array.stat().st_blocks * 512 >= x.nbytes
        yield (0, 0, slice(0, 8), slice(0, 64), slice(0, 64)), x

    write_parts(tmp_path / f"o{suffix}", select(with_header).fields, x.dtype, parts)


def told(number):
    """An encoder that is told to stop while it works."""

    def encode_to(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(10)

    return encode_to


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(fails, monkeypatch, number):
    monkeypatch.setattr(api, "encode_to", told(number))
    before = signal.signal(number, signal.SIG_DFL)
    try:
        code, said = fails("compress x.npy o.cfq")
        assert code == 128 + number and said == f"error: stopped by {number.name}\n"
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_ctrl_c_leaves_nothing_behind(fails, monkeypatch):
    monkeypatch.setattr(api, "encode_to", told(signal.SIGINT))
    # ignored where the tests themselves run in the background of a shell
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert fails("compress x.npy o.cfq") == (130, "error: interrupted\n")
    finally:
        signal.signal(signal.SIGINT, before)


def test_nohup_is_obeyed(fails, monkeypatch, tmp_path):
    def encode_to(*_, **__):
        os.kill(os.getpid(), signal.SIGHUP)
        return 1

    monkeypatch.setattr(api, "encode_to", encode_to)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main(["compress", "x.npy", "o.cfq"])
        assert stop.value.code == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
