"""Reads the golden files with pyarrow and TensorBoard and compares them: the CSV, the Parquet file and the events hold the same values."""

import pathlib

import pandas
import pyarrow.parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = pathlib.Path(__file__).parent
table = pyarrow.parquet.read_table(folder / "rounds.parquet")
table.validate(full=True)
print(table.schema)
rounds = table.to_pandas()
csv = pandas.read_csv(folder / "rounds.csv")
pandas.testing.assert_frame_equal(rounds.astype({"model": object}), csv.astype({"model": object}), check_dtype=False)

events = EventAccumulator(str(folder))
events.Reload()
columns = {
    "accuracy/test": "test_accuracy",
    "accuracy/devices": "device_accuracy",
    "loss/test": "test_loss",
    "loss/train": "train_loss",
    "time/virtual_seconds": "virtual_seconds",
    "traffic/bytes_up": "bytes_up",
    "traffic/bytes_down": "bytes_down",
    "energy/joules": "energy_j",
    "clients/contributions": "contributions",
    "clients/members": "members",
    "clients/dropped": "dropped",
    "clients/clipped": "clipped",
    "clients/mean_staleness": "mean_staleness",
}
assert set(events.Tags()["scalars"]) == set(columns)
times = dict(zip(rounds["round"], rounds["virtual_seconds"]))
for tag, column in columns.items():
    wanted = rounds[["round", column]].dropna()
    found = events.Scalars(tag)
    assert [event.step for event in found] == list(wanted["round"]), tag
    for event, value in zip(found, wanted[column]):
        assert abs(event.value - value) <= 1e-6 * abs(value), (tag, event)
        assert event.wall_time == 1577836800 + times[event.step], (tag, event)
print(f"{len(columns)} tags, {len(rounds)} rounds: the same values in all three")
