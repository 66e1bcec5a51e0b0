#!/usr/bin/env python3
"""Features of real data as NPZ files, for measuring small models.

  prepare.py digits RECORDINGS.tar.gz OUT    spoken digits: log mel bands, `x` float32 [rows, 32 frames, 40 bands] and [rows, 40, 32], labels `y`
  prepare.py sensors NAB.tar.xz OUT          sensor series: windows of 128 points, each scaled by its series; `x` float32 [rows, 128] and `y`, the same

Test rows are the recordings 0 to 4 of each speaker and digit (the set's own convention), and the last fifth of each series. Needs NumPy.
"""
import io
import json
import sys
import tarfile
import wave
from pathlib import Path

import numpy as np

RATE, FRAMES, BANDS = 8000, 32, 40
WINDOW, STRIDE = 128, 32


def mel_filters(n_fft):
    """Triangles of equal width on the mel scale, [BANDS, n_fft // 2 + 1]."""
    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)

    points = 700 * (10 ** (np.linspace(mel(0), mel(RATE / 2), BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(n_fft, 1 / RATE)
    left, middle, right = points[:-2, None], points[1:-1, None], points[2:, None]
    return np.maximum(0, np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)))


def log_mel(samples):
    """[FRAMES, BANDS], of zero mean and unit variance: 32 ms windows spread evenly over the recording."""
    n_fft = 256
    samples = np.pad(samples, (0, max(0, n_fft - len(samples))))
    starts = np.linspace(0, len(samples) - n_fft, FRAMES).round().astype(int)
    frames = np.stack([samples[s:s + n_fft] for s in starts]) * np.hanning(n_fft)
    bands = np.log(np.abs(np.fft.rfft(frames)) ** 2 @ mel_filters(n_fft).T + 1e-6)
    return (bands - bands.mean()) / (bands.std() + 1e-6)


def digits(archive, out):
    rows = []
    with tarfile.open(archive) as tar:
        for entry in sorted((e for e in tar if e.name.endswith(".wav")), key=lambda e: e.name):
            digit, _, take = Path(entry.name).stem.split("_")
            with wave.open(io.BytesIO(tar.extractfile(entry).read())) as sound:
                samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16) / 32768
            rows.append((int(take) < 5, int(digit), log_mel(samples)))
    for name, is_test in (("train", False), ("test", True)):
        chosen = [(label, x) for test, label, x in rows if test == is_test]
        x = np.stack([x for _, x in chosen]).astype(np.float32)
        y = np.array([label for label, _ in chosen], np.int64)
        np.savez(out / f"digits-steps-{name}.npz", x=x, y=y)
        np.savez(out / f"digits-series-{name}.npz", x=np.ascontiguousarray(x.transpose(0, 2, 1)), y=y)
        print(f"digits-{name}: {len(y)} rows")


def sensors(archive, out):
    parts = {"train": [], "test": []}
    with tarfile.open(archive) as tar:
        files = {e.name: tar.extractfile(e).read() for e in tar if e.isfile() and e.name.endswith((".csv", "combined_windows.json"))}
    anomalies = json.loads(next(text for name, text in files.items() if name.endswith(".json")))
    for name in sorted(n for n in files if n.endswith(".csv") and "/real" in n):
        lines = [line.split(",") for line in files[name].decode().splitlines()[1:]]
        times = [line[0] for line in lines]
        values = np.array([float(line[1]) for line in lines])
        cut = len(values) * 4 // 5
        low, high = np.percentile(values[:cut], [1, 99])
        values = np.clip((values - low) / (high - low + 1e-9), -0.5, 1.5)
        wrong = [w for key, windows in anomalies.items() if name.endswith(key) for w in windows]
        for start in range(0, len(values) - WINDOW + 1, STRIDE):
            end = start + WINDOW
            if start < cut < end or any(a[:19] <= times[end - 1] and times[start] <= b[:19] for a, b in wrong):
                continue
            parts["train" if end <= cut else "test"].append(values[start:end])
    for name, windows in parts.items():
        x = np.stack(windows).astype(np.float32)
        np.savez(out / f"sensors-{name}.npz", x=x, y=x)
        print(f"sensors-{name}: {len(x)} rows")


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("digits", "sensors"):
        sys.exit(__doc__)
    out = Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    {"digits": digits, "sensors": sensors}[sys.argv[1]](sys.argv[2], out)


if __name__ == "__main__":
    main()
