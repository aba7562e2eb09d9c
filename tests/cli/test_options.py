"""One table is the command line, the keywords of `run()` and of the decorator, the help, and a page of the docs."""

import re
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import Experiment, Mode, RunOptions, UsageError
from pyexp.commandline import parse, parser
from pyexp.executors import get_executor
from pyexp.options import BY_FIELD, GROUPS, OPTIONS, OVERRIDE_HELP, Options, default_of, settle, spelled

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "options.md"
#: A value for each option that takes one.
VALUES: dict[str, list[Any]] = {
    "timestamp": ["2024-01-25_14-30-00", "t"],
    "name": ["mnist"],
    "output_dir": ["results/"],
    "select": ["exp_*", "-odd", "a b", ("a", "-b", "c d")],
    "executor": ["fork", "ray://host:10001"],
    "jobs": [1, 64, "auto"],
    "gpus": ["auto", "none", "0,0,1", "0+1,2+3"],
    "timeout": [0.5, 3600.0],
    "grace": [0.0, 30.0],
    "retries": [0, 3],
    "plot": ["accuracy", "accuracy:lr,width", "-x"],
    "stop_after": [0.5, 3000.0],
}
SWITCHES = [option.field for option in OPTIONS if option.metavar is None]


def said() -> st.SearchStrategy[dict[str, Any]]:
    """What a command line may say, by field."""
    valued = {field: st.sampled_from(values) for field, values in VALUES.items()}
    switches = {field: st.booleans() for field in SWITCHES if field != "timestamp"}
    return st.fixed_dictionaries({}, optional={**valued, **switches})


def test_every_option_has_its_flag_and_its_keyword_and_the_other_way_round() -> None:
    by_table = {option.field for option in OPTIONS} | {"overrides"}
    assert set(Options._fields) == by_table
    assert set(RunOptions.__annotations__) | {"report"} == by_table  # which run() takes as an argument of its own


def test_the_page_of_the_docs_has_the_rows_of_the_table() -> None:
    head = ["", "| command line | `run()`, decorator | what it does |", "|---|---|---|"]
    lines: list[str] = []
    for title, options in GROUPS.items():
        lines += [f"## {title.capitalize()}", *head]
        for option in options:
            flags = ", ".join(f"`{flag}{f' {option.metavar}' if option.metavar else ''}`" for flag in option.flags)
            undone = f" (undone by `{option.off}`)" if option.off else ""
            keyword = f"`{option.field}={'…' if option.metavar else option.sets}`"
            lines.append(f"| {flags}{undone} | {keyword} | {option.help}{default_of(option)} |")
        lines.append("")
    row = '| `key=value`, `key:=literal`, `+key=value` | `overrides={"key": value}` | ' + OVERRIDE_HELP + " |"
    assert "\n".join([*lines, "## Overrides", *head, row, ""]) in PAGE.read_text(), "put these rows into the page"


def test_the_help_has_every_flag_with_what_it_does() -> None:
    told = " ".join(parser("main.py").format_help().split())
    for option in OPTIONS:
        assert all(flag in told for flag in option.flags)
        assert " ".join(option.help.split()[:4]) in told


@given(said())
def test_what_is_spelled_is_parsed_back(options: dict[str, Any]) -> None:
    assert parse(spelled(options)) == options


def test_a_new_run_needs_no_word() -> None:
    assert spelled({"timestamp": True}) == []
    assert spelled({"timestamp": False}) == ["--no-timestamp"]


@pytest.mark.parametrize("field", sorted({field for field in SWITCHES if field != "timestamp"}))
def test_every_switch_can_be_taken_back_on_the_command_line(field: str) -> None:
    option = BY_FIELD[field]
    assert option.off is not None
    for flag in option.flags:
        assert parse([flag]) == {field: option.sets}
    assert parse([option.off]) == {field: not option.sets}
    assert getattr(settle({field: option.sets}, {}, parse([option.off])), field) is not option.sets


@given(said(), said(), said())
def test_the_command_line_wins_over_run_and_run_over_the_decorator(
    decorator: dict[str, Any], call: dict[str, Any], argv: dict[str, Any]
) -> None:
    try:
        made = settle(decorator, call, parse(spelled(argv)))
    except UsageError:
        return
    for field, value in argv.items():
        assert getattr(made, field) == value
    for field, value in call.items():
        assert getattr(made, field) == value or field in argv or any(argv.values())


def test_what_a_layer_says_switches_off_what_contradicts_it_below() -> None:
    made = settle({"rerun": True}, {"timestamp": "t"}, parse(["--lf", "--continue"]))
    assert (made.mode, made.rerun, made.timestamp, made.resume) == (Mode.FAILED, False, True, True)
    assert settle({"last_failed": True}, {"report": True}, {}).mode is Mode.REPORT
    assert settle({"resume": True}, {}, parse(["--timestamp", "t"])).timestamp == "t"


def test_the_overrides_of_all_layers_add_up_and_the_last_wins() -> None:
    made = settle({"overrides": {"a": 1}}, {"overrides": ["b=2"]}, parse(["a=3", "+c.d=x"]))
    assert [(override.key, override.value) for override in made.overrides] == [
        ("a", 1),
        ("b", 2),
        ("a", 3),
        ("c.d", "x"),
    ]
    assert [override.adds for override in made.overrides] == [False, False, False, True]


@pytest.mark.parametrize(
    ("options", "mode", "latest"),
    [
        ([], Mode.RUN, False),
        (["--continue"], Mode.RUN, True),
        (["--timestamp", "t"], Mode.RUN, False),
        (["--rerun"], Mode.RERUN, False),
        (["--rerun", "--continue"], Mode.RERUN, True),
        (["--lf"], Mode.FAILED, True),
        (["--lf", "--timestamp", "t"], Mode.FAILED, False),
        (["--report"], Mode.REPORT, True),
        (["--report", "--timestamp", "t"], Mode.REPORT, False),
        (["--report", "--no-timestamp"], Mode.REPORT, False),
    ],
)
def test_the_flags_say_what_a_run_is_for_and_which(options: list[str], mode: Mode, latest: bool) -> None:
    made = settle({}, {}, parse(options))
    assert (made.mode, made.latest) == (mode, latest)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--reprot"], "unknown option '--reprot'; did you mean '--report'"),
        (["--jobs=x"], r"--jobs is 'x'; it takes a number from 1, or 'auto'"),
        (["-j", "0"], "--jobs is '0'"),
        (["-j", "-1"], "--jobs is '-1'"),
        (["-j", "1.5"], "--jobs is '1.5'"),
        (["--timeout", "0"], "--timeout is '0'; it takes seconds, more than 0"),
        (["--timeout", "inf"], "--timeout is 'inf'"),
        (["--timeout", "nan"], "--timeout is 'nan'"),
        (["--grace=-1"], "--grace is '-1'; it takes seconds, from 0"),
        (["--grace", "inf"], "--grace is 'inf'"),
        (["--retries", "-1"], "--retries is '-1'; it takes a number from 0"),
        (["--timestamp", "../x"], "timestamp '../x' holds a path separator"),
        (["--name", ".."], r"name '\.\.' names a folder above"),
        (["--output-dir", ""], "--output-dir is ''; it takes a folder"),
        (["-k"], "expected one argument"),
        (["main"], "unexpected argument 'main'; an override is written key=value"),
        (["=3"], "has an empty part"),
        (["a..b=3"], "has an empty part"),
        (["name=other"], "'name' identifies the cells"),
        (["out=there"], "'out' is the folder that pyexp gives each cell"),
        (["--report=3"], "ignored explicit argument '3'"),
        (["--rep"], "unknown option '--rep'"),
        (["--rerum"], r"unknown option '--rerum'; did you mean ((?!'--rerun).)*$"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_says_what_would_be_right(argv: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse(argv)
    assert "\n" not in str(caught.value)


EXCLUSIVE = [
    *permutations(["--report", "--rerun", "--lf"], 2),
    *permutations(["--list", "--report", "--dry-run"], 2),
    ("--list", "--rerun"),
    ("--lf", "--list"),
    *product(["--report", "--as-run"], ["--rerun-changed", "--lf"]),
    *product(["--rerun"], ["--as-run", "--rerun-changed", "--accept-code"]),
]


@pytest.mark.parametrize(("one", "other"), EXCLUSIVE)
def test_flags_that_contradict_each_other_are_refused(one: str, other: str) -> None:
    with pytest.raises(UsageError, match="contradict each other; give one of them"):
        settle({}, {}, parse([one, other]))


def test_pdb_and_an_executor_contradict_each_other_where_one_does_not_win() -> None:
    with pytest.raises(UsageError, match="--pdb and --executor contradict each other; --pdb runs cells inline"):
        settle({}, {}, parse(["--pdb", "--executor", "fork"]))
    assert settle({"executor": "ray"}, {}, parse(["--pdb"])).pdb
    assert not settle({"pdb": True}, {}, parse(["--executor", "fork"])).pdb


def test_a_report_on_cells_as_they_were_run_takes_no_override() -> None:
    """Those of the script are no mistake: the run may have had others."""
    for call, argv in (({}, ["--as-run", "k=7"]), ({"as_run": True}, ["k=7"])):
        with pytest.raises(UsageError, match="--as-run reports on cells as they were run, and takes no 'k=7'; select"):
            settle({}, call, parse(argv))
    assert settle({"overrides": {"k": 7}}, {}, parse(["--as-run"])).as_run
    assert settle({}, {"as_run": True}, parse(["k=7", "--no-as-run"])).overrides


def test_continue_and_a_timestamp_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="--continue is for the latest run, and --timestamp alone continues"):
        settle({}, {}, parse(["--continue", "--timestamp", "t"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"job": 2}, "the decorator has no option 'job'; did you mean 'jobs'"),
        ({"jobs": True}, "jobs is True; it takes a number from 1"),
        ({"jobs": 1.5}, "jobs is 1.5"),
        ({"jobs": float("inf")}, "jobs is inf; it takes a number from 1"),
        ({"timeout": 10**400}, "timeout is 10+; it takes seconds"),
        ({"timeout": "soon"}, "timeout is 'soon'; it takes seconds"),
        ({"capture": "no"}, "capture is 'no'; it takes True or False"),
        ({"output_dir": 3}, "output_dir is 3; it takes a folder"),
        ({"output_dir": b"x"}, "output_dir is b'x'; it takes a folder"),
        ({"output_dir": "a\0b"}, "it takes a folder"),
        ({"select": ["a"]}, r"select is \['a'\]; it takes a glob"),
        ({"select": ()}, r"select is \(\); it takes a glob such as 'exp_\*', or a tuple of globs"),
        ({"select": ("a", 1)}, r"select is \('a', 1\)"),
        ({"overrides": "lr=3"}, "overrides is 'lr=3'; it takes a dict by key, or a list"),
        ({"overrides": [3]}, r"overrides is \[3\]; it takes a dict by key, or a list"),
        ({"overrides": 3}, "overrides is 3"),
        ({"overrides": {3: 4}}, "keys are strings"),
        ({"overrides": {"lr": {"": 1}}}, "has an empty part"),
    ],
)
def test_a_wrong_option_is_an_error_where_it_is_written(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Experiment(lambda config: None, **options)


def test_none_says_nothing() -> None:
    assert settle({"timeout": None, "select": None}, {"name": None}, {}) == Options()
    assert Experiment(lambda config: None, jobs=None).options == {}


@pytest.mark.parametrize("name", ["inline", "subprocess", "fork", "ray"])
def test_every_executor_that_the_help_names_is_there(name: str) -> None:
    assert name in BY_FIELD["executor"].help
    assert get_executor(name)


LONG = sorted(flag for option in OPTIONS for flag in option.flags if flag.startswith("--") and "=" not in flag)


@given(st.sampled_from(LONG), st.data())
def test_no_mistyped_flag_is_taken_for_one_that_removes(flag: str, data: st.DataObject) -> None:
    """With a letter too few or another one, of any flag."""
    at = data.draw(st.integers(2, len(flag) - 1))
    word = flag[:at] + data.draw(st.sampled_from(["", "0"])) + flag[at + 1 :]
    removing = {each for option in OPTIONS if option.removes for each in option.flags}
    assert removing == {"--rerun", "--rerun-changed"}
    with pytest.raises(UsageError, match="unknown option") as raised:
        parse([word])
    assert not removing & set(re.findall(r"'(--[\w-]+)'", str(raised.value).partition(";")[2]))
