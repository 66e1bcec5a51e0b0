"""Writes numpy.json: files as numpy makes them, with the values that they hold, and files that have to be refused.

python learning/testdata/make_numpy.py   (numpy 2)
"""

import io
import json
import pathlib
import zipfile

import numpy as np


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def case(name, content, array):
    array = np.asarray(array)
    values = array.astype("f4" if array.dtype.kind == "f" else array.dtype).ravel(order="C").tolist()
    return {"name": name, "hex": content.hex(), "kind": array.dtype.kind, "shape": list(array.shape), "values": values}


def arrays():
    ramp = np.arange(24).reshape(2, 3, 4)
    for dtype in ["<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4"]:
        signed = -ramp if dtype[1] != "u" else ramp + 200
        yield dtype, (signed / 3).astype(dtype) if dtype[1] == "f" else signed.astype(dtype)
    yield "|b1", ramp % 3 == 0
    yield "scalar", np.float32(2.5)
    yield "one", np.array([7], dtype="<i8")
    yield "empty", np.zeros((0, 3), dtype="<f4")
    yield "fortran", np.asfortranarray(ramp.astype("<f4"))
    yield "fortran_ints", np.asfortranarray((ramp[0] * 3).astype("<i2"))
    yield "limits", np.array([-(2**63), 2**63 - 1], dtype="<i8")
    yield "special", np.array([np.inf, -np.inf, -0.0, 1e-45], dtype="<f8")


def refused():
    whole = npy(np.arange(6, dtype="<f4").reshape(2, 3))
    yield "is cut off: its header asks for 24 bytes, there are 23", whole[:-1]
    yield "goes on after the 24 bytes", whole + b"\0"
    yield "does not begin like an .npy file", b"PK" + whole[2:]
    yield "version of the .npy format past 3", whole[:6] + b"\x04" + whole[7:]
    yield "cut off inside its header", whole[:40]
    yield "type `>f4`, which are not supported; save it little-endian", npy(np.zeros(2, dtype=">f4"))
    yield "type `<f2`, which are not supported; save it with .astype('float32')", npy(np.zeros(2, dtype="<f2"))
    yield "type `<u8`, which are not supported; save it with .astype('int64')", npy(np.zeros(2, dtype="<u8"))
    yield "type `<c8`", npy(np.zeros(2, dtype="<c8"))
    yield "type `<U3`", npy(np.array(["abc"]))
    yield "type `|O`", npy(np.array([{}], dtype=object))
    yield "save a plain array", npy(np.zeros(2, dtype=[("a", "<f4")]))
    yield "holds 1e300, which float32 can't", npy(np.array([1.0, 1e300]))

    def header(text, body=b""):
        text = text.encode()
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body

    good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
    for text in [
        "",
        "{}",
        good[:-1],
        good + " x",
        good.replace("(1,)", "(-1,)"),
        good.replace("(1,)", "(1.5,)"),
        good.replace("(1,)", "1"),
        good.replace("(1,)", "(99999999999999999999,)"),
        good.replace("False", "0"),
        good.replace("'descr'", "'dtype'"),
        good.replace("}", "'extra': 1}"),
        good.replace("'fortran_order': False", "'descr': '<f4'"),
        good.replace(", 'shape': (1,)", ""),
        good.replace("'descr': '<f4', ", ""),
        good.replace("'<f4',", "'<f4'"),
    ]:
        yield "has a header that is not", header(text, b"\0" * 4)
    yield "has an impossible shape", header(good.replace("(1,)", "(4294967296, 4294967296)"))
    yield "has an impossible shape", header(good.replace("(1,)", "(0, 4294967296, 4294967296)"))
    yield "has an impossible shape", header(good.replace("(1,)", "(" + "1," * 65 + ")"), b"\0" * 4)
    yield "bytes, the limit is 1048576", header(good.replace("(1,)", "(1048576,)"))
    yield "takes 8388608 bytes, the limit is 1048576", header(good.replace("'<f4'", "'|u1'").replace("(1,)", "(1048576,)"))
    yield "has a header past 10000 bytes", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"


def archives():
    held = {"x": np.arange(6, dtype="<f4").reshape(3, 2), "labels": np.array([0, 1, 2]), "dir/mask": np.array([True, False])}
    stored, packed, plain = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(stored, **held)
    np.savez_compressed(packed, **held)
    # As other tools write it: without ZIP64 fields, with a comment, not in order.
    with zipfile.ZipFile(plain, "w") as archive:
        archive.comment = b"PK\x05\x06 a comment that looks like a record"
        for name in sorted(held):
            archive.writestr(f"{name}.npy", npy(held[name]), zipfile.ZIP_DEFLATED if name == "x" else zipfile.ZIP_STORED)
    arrays = {name: case(name, b"", array) for name, array in held.items()}
    for name, file in [("stored", stored), ("packed", packed), ("plain", plain)]:
        yield {"name": name, "hex": file.getvalue().hex(), "arrays": arrays}


def sets():
    """A data set with inputs of several types, stored and deflated."""
    held = {
        "image": (np.arange(24) * 10).astype("|u1").reshape(4, 1, 2, 3),
        "tokens": np.arange(8, dtype="<i4").reshape(4, 2),
        "wide": np.asfortranarray(np.arange(12, dtype="<f8").reshape(4, 3) / 4),
        "flag": np.array([True, False, False, True]),
        "label": np.array([2, 0, 1, 2], dtype="<i8"),
        "score": np.array([0.5, 1.5, 2.5, 3.5], dtype="<f4"),
        "weights": np.array([1, 2, 0, 1], dtype="<i8"),
        "short": np.zeros(3, dtype="<f4"),
        "number": np.float32(1),
        "none": np.zeros((0, 2), dtype="<f4"),
    }
    for name, save in [("stored", np.savez), ("packed", np.savez_compressed)]:
        file = io.BytesIO()
        save(file, **held)
        yield {"name": name, "hex": file.getvalue().hex()}


def archive(files, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as opened:
        for name, content in files:
            opened.writestr(name, content)
    return file.getvalue()


def refused_archives():
    one = npy(np.arange(300, dtype="<f4"))
    whole = archive([("x.npy", one)])
    yield "is not a whole zip archive", b""
    yield "is not a whole zip archive", whole[:-1]
    yield "is not a whole zip archive", whole[40:]
    yield "is not a whole zip archive", one
    yield "`x.npy` is damaged", whole.replace(b"\0\0\x80\x3f", b"\0\0\x80\x40", 1)
    yield "packed by method 12", archive([("x.npy", one)], compression=zipfile.ZIP_BZIP2)
    yield "holds `readme.txt`, which is not an array", archive([("readme.txt", b"hello")])
    yield "holds the file `x.npy` twice", archive([("x.npy", one), ("y.npy", one)]).replace(b"y.npy", b"x.npy")
    encrypted = bytearray(whole)
    encrypted[whole.rindex(b"PK\x01\x02") + 8] |= 1
    yield "`x.npy` is encrypted", bytes(encrypted)
    # 4 MiB of zeros in 4 kB; and a directory that says less than there is.
    bomb = archive([("x.npy", npy(np.zeros(1 << 20, dtype="<f4")))], compression=zipfile.ZIP_DEFLATED)
    yield "unpacks to more than 1048576 bytes", bomb
    modest = bytearray(bomb)
    at = bomb.rindex(b"PK\x01\x02") + 24
    modest[at : at + 4] = (1000).to_bytes(4, "little")
    yield "`x.npy` is damaged", bytes(modest)
    tenth = npy(np.zeros(25_000, dtype="<f4"))
    many = archive([(f"{i}.npy", tenth) for i in range(12)], compression=zipfile.ZIP_DEFLATED)
    yield "unpacks to more than 1048576 bytes", many
    yield "x: is cut off", archive([("x.npy", one[:-4])])


def main():
    made = {
        "arrays": [case(name, npy(array), array) for name, array in arrays()],
        "refused": [{"said": said, "hex": content.hex()} for said, content in refused()],
        "archives": list(archives()),
        "sets": list(sets()),
        "refused_archives": [{"said": said, "hex": content.hex()} for said, content in refused_archives()],
    }
    plain = np.arange(4, dtype="<f4")
    for version in [(2, 0), (3, 0)]:
        made["arrays"].append(case(f"version {version[0]}", npy(plain, version), plain))
    # A case a line; JSON has no infinity.
    text = json.dumps(made).replace("-Infinity", "null").replace("Infinity", "null").replace(', {"name"', ',\n{"name"').replace(', {"said"', ',\n{"said"')
    pathlib.Path(__file__).with_name("numpy.json").write_text(text + "\n")


main()
