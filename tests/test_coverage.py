"""The intervals of cross-validated estimates hold the truth, as `benchmarks/coverage.py` measures it in full."""

import importlib.util
import sys
from argparse import Namespace

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # the benchmark imports another
# By its path, since a package on PyPI has the same name.
SPEC = importlib.util.spec_from_file_location("benchmark_of_coverage", ROOT / "benchmarks/coverage.py")
coverage = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(coverage)

SETS = 80


def percentages(text, name):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{name}  ")]
    return [float(word) for word in line.replace(name, "").split() if word.replace(".", "").isdigit()]


@pytest.fixture(scope="module")
def population():
    return coverage.gaussian(2.2, 0.5, 1).take(np.arange(1000))


def test_wilson_holds_the_mean_accuracy_of_the_heads_of_the_folds(population, capsys):
    coverage.measure(population, 100, Namespace(sets=SETS, seed=1, groups="near", head="ridge", bootstrap=0))
    folds, final, *_ = percentages(capsys.readouterr().out, "Wilson")
    assert folds >= 89  # 95 % of 80 data sets, less 2.5 standard errors
    assert final < folds  # the head that is trained on everything is better than its estimate


def test_folds_are_stratified_and_keep_groups_whole():
    labels, groups = np.array([0] * 60 + [1] * 40), np.arange(100) // 2
    fold = coverage.divide(coverage.Data(np.zeros((100, 1)), labels, groups), np.random.default_rng(0))
    assert (np.bincount(fold[:60]), np.bincount(fold[60:])) == (pytest.approx([12] * 5), pytest.approx([8] * 5))
    assert (fold[::2] == fold[1::2]).all()


def test_two_equally_good_heads_are_called_better_as_often_as_chance_has_it(population, capsys):
    coverage.compare(population, 100, Namespace(sets=40, seed=1, head="ridge", noise=0.5))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "either kept: McNemar" in line]
    assert float(line.split(":")[-1].split()[0]) < 20
