"""Whatever is wrong with the input: one sentence that names it, exit code 2, no output left."""

import os

import netCDF4
import numpy as np
import pytest
import xarray as xr

import caesar_freq
from caesar_freq import api, cli
from caesar_freq.data.field import Field
from caesar_freq.data.metadata import pack


def field(shape=(8, 20, 24)):
    x = np.random.default_rng(0).standard_normal(shape)
    for axis in range(len(shape)):
        x = x.cumsum(axis)
    return x.astype(np.float32)


@pytest.fixture
def fails(capsys, tmp_path, monkeypatch):
    """Run a command that must fail; returns the sentence it printed."""
    monkeypatch.chdir(tmp_path)

    def call(line):
        before = set(os.listdir())
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main(line.split())
        out, err = capsys.readouterr()
        assert stop.value.code == 2, (out, err)
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1
        assert set(os.listdir()) == before, "it left something behind"
        return err

    return call


def write_inputs():
    x = field()
    np.save("x.npy", x)
    np.savez("x.npz", data=x, wind=x, count=np.arange(5))
    np.save("int.npy", np.arange(10))
    np.save("complex.npy", np.ones(5, complex))
    np.save("six.npy", np.zeros((1, 1, 1, 1, 1, 5), np.float32))
    np.save("scalar.npy", np.float32(1))
    np.save("empty.npy", np.zeros((0, 4), np.float32))
    np.save("nan.npy", np.full((3, 40), np.nan, np.float32))
    np.save("objects.npy", np.array([{}, None]), allow_pickle=True)
    xr.Dataset({"u": ("t", x[0, 0]), "v": ("t", x[0, 1])}).to_netcdf("x.nc")
    for name in ("junk.npy", "junk.npz", "junk.nc", "junk.cfq", "junk.cfm", "junk.pth"):
        with open(name, "wb") as stream:
            stream.write(b"hello, this is not what the name says")
    np.save("npy.npz.npy", x)
    os.rename("npy.npz.npy", "npy.npz")
    for name, start in (("grib.nc", b"GRIB"), ("gz.nc", b"\x1f\x8b"), ("cfq.nc", b"CFQ\x01")):
        with open(name, "wb") as stream:
            stream.write(start + bytes(100))
    with netCDF4.Dataset("groups.nc", "w") as dataset:
        group = dataset.createGroup("inner")
        group.createDimension("x", 4)
        for name in ("u", "v"):
            group.createVariable(name, "f4", ("x",))[:] = 1
    for name in ("none.npy", "none.npz", "none.nc", "none.cfq"):
        open(name, "wb").close()
    os.mkdir("folder.cfq")
    os.mkdir("folder.npy")
    with open("x.cfq", "wb") as stream:
        stream.write(caesar_freq.encode(x))
    with open("two.cfq", "wb") as stream:
        dims = ("time", "height", "width")
        array, metadata = pack([Field("u", x, dims), Field("v", 2 * x, dims)])
        stream.write(caesar_freq.encode(array, metadata=metadata))


@pytest.mark.parametrize(
    "line, words",
    [
        ("compress absent.npy o.cfq", "absent.npy does not exist"),
        ("compress x.txt o.cfq", "x.txt has no known array format"),
        ("compress junk.npy o.cfq", "junk.npy is damaged"),
        ("compress junk.npz o.cfq", "junk.npz is damaged"),
        ("compress junk.nc o.cfq", "junk.nc is damaged"),
        ("compress none.npy o.cfq", "none.npy is damaged"),
        ("compress none.npz o.cfq", "none.npz is damaged"),
        ("compress none.nc o.cfq", "none.nc is damaged"),
        ("compress npy.npz o.cfq", "npy.npz is not an .npz archive; rename it to .npy"),
        ("compress grib.nc o.cfq", "grib.nc is a GRIB file; convert it first"),
        ("compress gz.nc o.cfq", "gz.nc is compressed by gzip; unpack it first"),
        ("compress cfq.nc o.cfq", "cfq.nc is a compressed file of CAESAR-Freq"),
        ("compress groups.nc o.cfq", "several float variables (inner/u, inner/v)"),
        ("compress groups.nc o.cfq --var u", "no variable 'u'; its variables are: inner/u, inner/v"),
        ("compress objects.npy o.cfq", "objects.npy holds Python objects"),
        ("compress x.npz o.cfq --var rain", "no key 'rain'; its keys are: data, wind, count"),
        ("compress x.npz o.cfq --var wind --var wind", "'wind' is named twice"),
        ("compress x.npz o.cfq --var count", "'count' in x.npz holds int64"),
        ("compress x.npy o.cfq --var rain", "holds one unnamed array"),
        ("compress x.nc o.cfq", "several float variables (u, v)"),
        ("compress x.nc o.cfq --var rain", "no variable 'rain'"),
        ("compress six.npy o.cfq", "6 dimensions"),
        ("compress scalar.npy o.cfq", "0 dimensions"),
        ("compress empty.npy o.cfq", "empty"),
        ("compress int.npy o.cfq", "int64"),
        ("compress complex.npy o.cfq", "complex128"),
        ("compress nan.npy o.cfq", "nan.npy: the data holds no finite value"),
        ("compress x.npy o.cfq --bound -1", "the bound is -1"),
        ("compress x.npy o.cfq --bound nan", "the bound is nan"),
        ("compress x.npy o.cfq --bound inf", "the bound is inf"),
        ("compress x.npy o.cfq --bound small", "'--bound'"),
        ("compress x.npy o.cfq --bound=1e-3,", "(it is 1e-3,); see caesar-freq compress --help"),
        ("compress x.npy o.cfq --mode psnr", "--mode psnr needs a bound"),
        ("compress x.npy o.cfq --mode abs", "--mode abs needs a bound"),
        ("compress x.npy o.cfq --mode lossless --bound 1", "takes no bound"),
        ("compress x.npy o.cfq --mode best", "'best' is not one of"),
        ("compress x.npy o.cfq --threads 0", "'--threads'"),
        ("compress x.npy o.cfq --speed 3", "--speed"),
        ("compress x.npy o.cfq --interpo-rate 3", "--interpo-rate 3 is about generated frames"),
        ("compress x.npy o.cfq --strategy student", "give --model combined_model.pth"),
        ("compress x.npy o.cfq --model absent.pth", "absent.pth does not exist"),
        ("compress x.npy o.cfq --model absent.cfm", "absent.cfm does not exist"),
        ("compress x.npy o.cfq --model junk.cfm", "junk.cfm"),
        ("compress x.npy o.cfq --model junk.pth", "junk.pth"),
        ("compress x.npy o.cfq --model x.npy --strategy student", "x.npy"),
        ("compress x.npy o.npz", "OUT is o.npz; its name must end in .cfq"),
        ("compress x.npy folder.cfq", "folder.cfq, which is a folder"),
        ("compress x.npy absent/o.cfq", "the folder of absent/o.cfq does not exist"),
        ("compress x.npy", "Missing argument 'OUT'"),
        ("decompress absent.cfq o.npy", "absent.cfq does not exist"),
        ("decompress folder.cfq o.npy", "folder.cfq does not exist or is not a file"),
        ("decompress x.npy o.npy", "x.npy: this is not a CAESAR-Freq file"),
        ("decompress junk.cfq o.npy", "junk.cfq: this is not a CAESAR-Freq file"),
        ("decompress none.cfq o.npy", "none.cfq: this is not a CAESAR-Freq file"),
        ("decompress x.cfq o.txt", "must end in .npy or .npz or .nc"),
        ("decompress x.cfq folder.npy", "folder.npy, which is a folder"),
        ("decompress x.cfq absent/o.npy", "the folder of absent/o.npy does not exist"),
        ("decompress two.cfq o.npy", "o.npy can hold one array but 2 were given"),
        ("decompress x.cfq o.npy --model absent.pth", "absent.pth does not exist"),
        ("info junk.cfq", "junk.cfq: this is not a CAESAR-Freq file"),
        ("verify absent.npy x.cfq", "absent.npy does not exist"),
        ("verify nan.npy x.cfq", "shape (3, 40)"),
        ("verify x.npy junk.cfq", "junk.cfq: this is not a CAESAR-Freq file"),
        ("verify x.npz two.cfq", "x.npz has no key 'u'"),
        ("shrink x.npy", "No such command 'shrink'"),
        ("merge --freq_compressor_path absent.pth --diffusion_path junk.pth "
         "--distillation_path junk.pth --output o.pth", "absent.pth"),
        ("split --inputs absent.npz --method time --output_dir parts", "absent.npz"),
    ],
)  # fmt: skip
def test_one_sentence_names_the_culprit(fails, line, words):
    write_inputs()
    message = fails(line)
    assert words in message
    assert "Traceback" not in message and "pickle" not in message


@pytest.mark.parametrize("key", ["../up", "x/", "end "])
def test_a_name_that_netcdf_refuses_is_no_full_disk(fails, key):
    np.savez("names.npz", **{key: field()})
    with open("names.cfq", "wb") as stream:
        array, metadata = pack([Field(key, field())])
        stream.write(caesar_freq.encode(array, metadata=metadata))
    message = fails("decompress names.cfq o.nc")
    assert "name in NetCDF" in message and "write to .npz" in message and "disk" not in message


def test_too_little_memory_is_one_sentence(fails, monkeypatch):
    def encode_to(*_, **__):
        np.zeros(1 << 58)

    write_inputs()
    monkeypatch.setattr(api, "encode_to", encode_to)
    message = fails("compress x.npy o.cfq")
    assert "not enough memory (Unable to allocate 2.00 EiB" in message and "threads" in message


def test_an_array_of_negative_length(fails):
    write_inputs()
    with open("x.npy", "rb") as stream:
        data = stream.read().replace(b"(8, 20, 24)", b"(-8,20, 24)")
    with open("minus.npy", "wb") as stream:
        stream.write(data)
    for mode in ("rel", "lossless"):
        assert "minus.npy is damaged" in fails(f"compress minus.npy o.cfq --mode {mode}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("suffix", ["npy", "npz", "nc", "zarr"])
def test_a_pipe_is_not_waited_for(fails, suffix):
    os.mkfifo(f"pipe.{suffix}")
    assert f"pipe.{suffix}" in fails(f"compress pipe.{suffix} o.cfq")


def test_a_missing_second_variable_leaves_no_half_output(fails):
    write_inputs()
    fails("compress x.npz o.cfq --var data --var rain")


def test_checkpoint_of_another_architecture(fails):
    import torch

    write_inputs()
    torch.save(
        {"model_state_dict": {"conv.weight": torch.zeros(3)}, "format": "other"}, "other.pth"
    )
    torch.save([1, 2], "list.pth")
    for name in ("other.pth", "list.pth"):
        assert name in fails(f"compress x.npy o.cfq --model {name}")
        assert name in fails(f"compress x.npy o.cfq --model {name} --strategy auto")
        assert name in fails(f"compress x.npy o.cfq --model {name} --strategy teacher")


def test_model_that_is_code_is_not_run(fails):
    import pickle

    class Trap:
        def __reduce__(self):
            return os.mkdir, ("trapped",)

    write_inputs()
    with open("trap.pth", "wb") as stream:
        pickle.dump({"model_state_dict": Trap()}, stream, protocol=2)
    assert "trap.pth" in fails("compress x.npy o.cfq --model trap.pth")


def test_damaged_file_at_any_place(fails):
    """A flipped bit or a missing end is always noticed and never becomes an array."""
    write_inputs()
    with open("two.cfq", "rb") as stream:
        data = stream.read()
    rng = np.random.default_rng(0)
    for place in [0, 3, 4, 5, 9, 40, len(data) - 1, *rng.integers(0, len(data), 25)]:
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(8))
        with open("broken.cfq", "wb") as stream:
            stream.write(broken)
        assert "broken.cfq" in fails("decompress broken.cfq o.npz")
    for length in (1, 3, 4, 30, len(data) // 2, len(data) - 1):
        with open("short.cfq", "wb") as stream:
            stream.write(data[:length])
        assert "short.cfq" in fails("decompress short.cfq o.npz")
    assert "short.cfq" in fails("verify x.npz short.cfq")


@pytest.mark.parametrize("packed", [np.savez, np.savez_compressed])
def test_a_damaged_archive_at_any_place(fails, packed):
    packed("x.npz", data=field())
    with open("x.npz", "rb") as stream:
        data = stream.read()
    rng = np.random.default_rng(0)
    for place in [*range(60), *rng.integers(60, len(data) - 80, 40)]:
        broken = bytearray(data)
        broken[place] ^= int(rng.integers(1, 256))
        with open("broken.npz", "wb") as stream:
            stream.write(broken)
        try:
            loaded = np.load("broken.npz")["data"]
        except BaseException:
            loaded = None
        if loaded is None:
            assert "broken.npz is damaged" in fails("compress broken.npz o.cfq")


@pytest.mark.parametrize("header", [b"(8, 20, 24), ", b"(8, (((24), ", b"", b"{"])
def test_a_header_that_is_no_python(fails, header):
    np.save("x.npy", field())
    with open("x.npy", "rb") as stream:
        data = stream.read()
    at = data.index(b"(8, 20, 24), }")
    with open("odd.npy", "wb") as stream:
        stream.write(data[:at] + header.ljust(14) + data[at + 14 :])
    assert "odd.npy is damaged" in fails("compress odd.npy o.cfq")


def test_existing_output_survives_a_failure(fails):
    write_inputs()
    with open("o.npz", "wb") as stream:
        stream.write(b"precious")
    fails("decompress junk.cfq o.npz")
    with open("o.cfq", "wb") as stream:
        stream.write(b"precious")
    fails("compress int.npy o.cfq")
    for name in ("o.npz", "o.cfq"):
        with open(name, "rb") as stream:
            assert stream.read() == b"precious"
