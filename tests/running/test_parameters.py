from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.running.page import Page
from companion.running.parameters import pairs, pairs_from_yaml, parse_parameters
from companion.running.record import Refused

PARAMETERS = """
n: int = 4  # number of states, 1 to 64
norm: float = 0.5  # spectral norm, in (0, 1]
seed: int = 0  # seed of every draw, in [0, inf)
dtype: str = "a"  # arithmetic, one of: a, b
label: str = "x y"  # a label
plot: bool = True  # whether to draw
"""
PAGE = Page("demo", "", {}, parse_parameters(PARAMETERS))


def test_a_parameters_cell_is_read_not_run() -> None:
    found = {p.name: p for p in parse_parameters(PARAMETERS)}
    assert list(found) == ["n", "norm", "seed", "dtype", "label", "plot"]
    assert found["n"].default == 4
    assert found["n"].doc == "number of states"
    assert [p.allowed for p in found.values()] == [
        "int in [1, 64]",
        "float in (0, 1]",
        "int in [0, 9223372036854775807]",
        "one of a, b",
        "text of printable characters, not empty",
        "true or false",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n = 4  # states, 1 to 64", "not `name: type = default "),
        ("n: list = 4  # states, 1 to 64", "not `name: type = default "),
        ("n: int  # states, 1 to 64", "not `name: type = default "),
        ("import os", "not `name: type = default "),
        ("n: int = 4", "does not say what it means"),
        ("n: int = 4  # 1 to 64", "does not say what it means"),
        ("n: int = 4  # states", "lacks a range"),
        ("n: int = 4  # states; 1 <= n <= 64", "no other ="),
        ("n: int = 4  # states, in [1, 64[", "not understood"),
        ("n: int = 4  # states, in [1; 64]", "not understood"),
        ("n: int = 4  # states, one of:", "not understood"),
        ("n: int = 0  # states, 1 to 64", "parameter n is '0'"),
        ("n: int = 4.0  # states, 1 to 64", "no int"),
        ("n: int = True  # states, 1 to 64", "no int"),
        ("x: float = float('nan')  # x, 0 to 1", "malformed"),
        ("x: float = 1e999  # x, in [0, inf)", "parameter x is 'inf'"),
        ("d: str = 'c'  # d, one of: a, b", "parameter d is 'c'"),
        ("d: str = 'c'  # d, 1 to 3", "does not go with str"),
        ("n: int = 4  # states, one of: 1, x", "parameter n is 'x'"),
        ("n: int = 4  # n, 1 to 9\nn: int = 5  # n, 1 to 9", "twice"),
        ("n: int = ", "does not say"),
        ("n: int = f(  # states, 1 to 64", "never closed"),
    ],
)
def test_a_malformed_parameters_cell_is_refused(line: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse_parameters(line)


@given(st.integers(1, 64), st.floats(0, 1, exclude_min=True), st.booleans(), st.sampled_from("ab"))
def test_values_survive_being_written_out(n: int, norm: float, plot: bool, dtype: str) -> None:
    values = {"n": n, "norm": norm, "plot": plot, "dtype": dtype}
    run = PAGE.run([(name, str(value)) for name, value in values.items()])
    assert {name: run.values[name] for name in values} == values
    assert type(run.values["norm"]) is float
    assert run.id == PAGE.run([(k, str(v)) for k, v in reversed(values.items())]).id


BAD = [
    ("N=4", "'N' is unknown to demo; allowed: n, norm"),
    ("nrm=0.5", "Did you mean norm"),
    ("n=", "parameter n is ''; allowed: int in"),
    ("n=four", "int in"),
    ("n=4.0", "int in"),
    ("n=1e1", "int in"),
    ("n=1_0", "int in"),
    ("n=٤", "int in"),
    ("n= 4", "int in"),
    ("n=true", "int in"),
    ("n=0", r"\[1, 64\]"),
    ("n=65", r"\[1, 64\]"),
    ("seed=-1", r"\[0, 9223372036854775807\]"),
    (f"seed={2**63}", r"\[0, 9223372036854775807\]"),
    ("seed=" + "9" * 5000, "int in"),
    ("norm=0", r"\(0, 1\]"),
    ("norm=nan", "float in"),
    ("norm=inf", "float in"),
    ("norm=1e999", "float in"),
    ("norm=-0.1", "float in"),
    ("norm=true", "float in"),
    ("norm=__import__('os')", "float in"),
    ("dtype=c", "one of a, b"),
    ("dtype=", "one of a, b"),
    ("plot=1", "true or false"),
    ("label=", "printable"),
    ("label=a\nimport os", "printable"),
    ("n", "malformed"),
    ("=4", "malformed"),
    ("n-1=4", "malformed"),
    ("--n=4", "malformed"),
]


@pytest.mark.parametrize(("item", "message"), BAD)
def test_bad_parameters_are_refused(item: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        PAGE.run(pairs([item]))


LISTS = """
models: str = "rnn urnn"  # what is trained, words of: rnn, urnn, rnn/10
sizes: str = "2 4"        # hidden units, numbers 1 to 64
"""


@pytest.mark.parametrize("item", ["models=rnn/10 rnn", "models=urnn", "sizes=64", "sizes=4 2 1"])
def test_a_list_of_words_or_numbers(item: str) -> None:
    page = Page("demo", "", {}, parse_parameters(LISTS))
    name, _, text = item.partition("=")
    assert page.run(pairs([item])).values[name] == text


@pytest.mark.parametrize(
    "item",
    ["models=rnn rnn", "models=foo", "models=rnn,urnn", "models= ", "models=rnn  urnn", "models=",
     "sizes=4 4", "sizes=0", "sizes=65", "sizes=-3", "sizes=a", "sizes=2,4", "sizes=2.0",
     "sizes=02"],
)  # fmt: skip
def test_a_bad_list_is_refused(item: str) -> None:
    page = Page("demo", "", {}, parse_parameters(LISTS))
    with pytest.raises(Refused, match=r"allowed: a list with spaces between, .*, none twice"):
        page.run(pairs([item]))


def test_a_file_is_sought_from_where_one_is_and_named_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = parse_parameters('student: str = "none"  # of yours: path of a file, or none')
    page = Page("demo", "", {}, declared)
    (tmp_path / "a").write_text("one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    runs = [page.run([("student", text)]) for text in ("a", "./a", "~/a", str(tmp_path / "a"))]
    assert {run.id for run in runs} == {runs[0].id} != {page.run().id}
    assert {run.values["student"] for run in runs} == {str(tmp_path / "a")}
    (tmp_path / "a").write_text("two")
    assert page.run([("student", "a")]).id not in {runs[0].id, page.run().id}
    os.mkfifo(tmp_path / "fifo")
    for bad in ("b", ".", "/dev/zero", "fifo", "~nobody-here/x", "a/b", "x" * 5000):
        with pytest.raises(Refused, match=r"cannot be read from .*allowed: the path of a file"):
            page.run([("student", bad)])


def test_one_value_has_one_id() -> None:
    page = Page("demo", "", {}, parse_parameters("x: float = 1  # a number, 0 to 1"))
    ids = {page.run(given).id for given in ([], [("x", "1")], [("x", "1.0")], [("x", "10e-1")])}
    assert len(ids) == 1
    assert page.run([("x", "0.5")]).id not in ids


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(Refused, match="n is given twice"):
        PAGE.run(pairs(["n=4", "n=4"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "allowed: lines of"),
        ("- n", "allowed: lines of"),
        ("n: [1, 2]", "holds several runs"),
        ("- {n: 1}\n- {n: 2}", "holds several runs"),
        ("x: 1\nn: {a: 1}", "allowed: lines of"),
        ("n: !!python/object/apply:os.system [echo, x]", "holds several runs"),
        ("? [a]\n: 1", "cannot be read"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "allowed: lines of"),
        ("n: 1\n---\nn: 2", "cannot be read"),
        ("n: 'x", "cannot be read"),
        ("[" * 50_000, "cannot be read"),
        ("#" * 4_000_001, "allowed: at most"),
        ("\xff", "allowed: lines of"),
    ],
)
def test_bad_parameter_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(Refused, match=message):
        pairs_from_yaml(path)


def test_parameter_files_are_text_until_they_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("n: 8\nnorm: 1e-3\nplot: false\nlabel: !!python/name:os.system x\n")
    found = pairs_from_yaml(path)
    assert found == [("n", "8"), ("norm", "1e-3"), ("plot", "false"), ("label", "x")]
    path.write_text("n: 8\nnorm: 1e-3\nn: 9\n")
    with pytest.raises(Refused, match="twice"):
        pairs_from_yaml(path)
    with pytest.raises(Refused, match="cannot be read"):
        pairs_from_yaml(tmp_path / "missing.yaml")
