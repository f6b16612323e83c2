"""The script backbone.py: what it refuses, what it imports, and what its table of costs says."""

import shutil
import subprocess
import sys

import pytest
from dependencies import ROOT, SRC


def test_a_size_without_list_builds_nothing(tmp_path):
    command = [sys.executable, ROOT / "src/backbone.py", "--size", "320"]
    shutil.copy(ROOT / "params.yaml", tmp_path)
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "--size needs --list" in result.stderr
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("options", "imported"), [([], "without"), (["--list", "--size", "1"], "tensorflow")])
def test_the_backbone_is_built_without_tensorflow(tmp_path, options, imported):
    """TensorFlow would double the time; only `--list`, which times training, imports it."""
    (tmp_path / "models").mkdir()
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    script = str(SRC / "backbone.py")
    code = f"""
import runpy, sys
sys.path.insert(0, {str(SRC)!r})
sys.argv[0] = {script!r}
try:
    runpy.run_path({script!r}, run_name="__main__")
finally:
    print("tensorflow" if sys.modules.get("tensorflow") else "without")
"""
    result = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == imported, result.stderr
    assert (tmp_path / "models" / "backbone").exists() == (not options)


def test_the_table_of_costs_has_a_row_for_the_input_and_each_cut_point(tmp_path):
    from thaw.backbones.cost_table import cost_table
    from thaw.core import params

    text = (ROOT / "params.yaml").read_text().replace("name: EfficientNetLite0", "name: MobileNet")
    text = text.replace("cut: null", "cut: conv_pw_3_relu")  # training behind each cut point is timed
    backbone = params.parse(text, "params.yaml").backbone
    assert (backbone.name, backbone.cut) == ("MobileNet", "conv_pw_3_relu")
    size, table = cost_table(backbone, None)
    assert size == 224
    size, table = cost_table(backbone, 64)
    assert table["layer"].to_list()[:2] == ["none", "conv1"] and table["layer"][-1] == "features"
    for name in ("parameters", "multiply_adds"):
        before, behind = table[f"{name}_before"].to_list(), table[f"{name}_behind"].to_list()
        assert before[0] == behind[-1] == 0 and before == sorted(before)
        assert {a + b for a, b in zip(before, behind, strict=True)} == {before[-1]}
    assert table["output_bytes"].to_list()[:2] == [64 * 64 * 3, 32 * 32 * 32 * 2]
    assert table["output_bytes"][-1] == 128 * 2
    assert table["training_seconds"][0] > table["training_seconds"][-1] == 0
