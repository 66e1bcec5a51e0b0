"""Records what PyTorch exports and how it trains: see README.md.

`python record.py` makes everything again; `python record.py mlp_ts13 gru` only the cases or families of these names.
"""

import os
import pathlib
import sys

sys.dont_write_bytecode = True

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
import torch

from recorder import cases, files, refused, report

FOLDER = pathlib.Path(__file__).parent


def main(wanted):
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    failed = []
    for case in cases.CASES:
        if wanted and case.name not in wanted and case.family not in wanted:
            continue
        try:
            meta = files.record(cases.FAMILIES[case.family], case, FOLDER)
        except Exception as error:
            failed.append(case.name)
            print(f"{case.name}: {type(error).__name__}: {str(error)[:300]}")
            continue
        worst = max(i["max_abs_diff_onnxruntime"] for i in meta["inference"])
        drift = [max(abs(a / b - 1) for a, b in zip(c["losses"], c["losses_f64"])) for c in meta.get("curves", [])]
        print(f"{case.name}: {worst:.1e}, curves against f64 {' '.join(f'{d:.1e}' for d in drift)}, {' '.join(meta['ops'])}", flush=True)
    if not wanted or "refused" in wanted:
        refused.write(FOLDER)
    report.write(FOLDER)
    if failed:
        sys.exit(f"not recorded: {' '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
