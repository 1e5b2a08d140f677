"""The row beside BiaPy, with made-up operations: pairs, few pairs, a call that is stopped, and going on after a stop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench"
PROGRAM = """
import json, time
import objects as row
row.LIMIT, row.version = 0.3, lambda name: "9"
row.SHAPES = {"12 x 12": ((12, 12), 4.0)}
row.LONG, row.LONGER, row.EVERY = 0.02, 0.06, 0.02
order = []

def burn(name, seconds):
    def call():
        order.append(name)
        begin = time.process_time()
        while time.process_time() - begin < seconds:
            pass
        return name
    return call

def operations(ndim):
    for name, theirs in {"quick": 0.01, "long": 0.04, "longer": 0.12, "endless": 9.0}.items():
        build = lambda labels, name=name, theirs=theirs: (burn("ours", 0.001), burn("theirs", theirs if labels.shape == (12, 12) else 0.0))
        yield row.Operation(name, 5, build, lambda labels, ours, theirs: f"{ours} {theirs}")

row.operations = operations
results, before = [], None
for _ in range(99):  # each call is stopped after a pair
    for before in row.objects(before, None):
        break
    if before["complete"]:
        break
    before = json.loads(json.dumps(before))
print(json.dumps([before, order]))
"""


def test_pairs_are_few_where_the_other_program_is_slow() -> None:
    printed = subprocess.run([sys.executable, "-c", PROGRAM], check=True, cwd=BENCH, capture_output=True, text=True).stdout
    result, order = json.loads(printed.splitlines()[-1])
    lines = {name.split(",")[0]: line for name, line in result["pairs"].items()}
    assert [len(line["ours"]) for line in lines.values()] == [7] * 4
    assert [len(line["theirs"]) for line in lines.values()] == [7, 3, 1, 0]
    assert lines["endless"]["stopped"] >= 0.3
    assert [line["same"] for line in lines.values()] == ["ours theirs"] * 3 + ["ours None"]
    figures = {figure["what"].split(",")[0]: figure for figure in result["figures"]}
    assert "once" in figures["longer"]["what"]
    assert "3 times" in figures["long"]["what"]
    assert [name for name, figure in figures.items() if figure.get("at_least")] == ["endless"]
    assert figures["endless"]["value"] > 100
    assert "theirs,ours" in ",".join(order)
    assert 3 < figures["quick"]["value"] < 30
