"""Families, variants, options and errors: names, codes and fields."""

from __future__ import annotations

import pickle
from importlib import metadata
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from morula.core import Family, JobError, MorulaError, OptionError, errors
from morula.core.errors import InvalidOptionsError, Problem
from morula.core.family import Member, did_you_mean
from morula.core.options import Options, validated
from morula.core.variants import ManyOf, OneOf, VariantOptions, expand_variant, variant_types
from morula.testing.errors import raises


class Turn(VariantOptions):
    """A turn."""

    kind: Literal["turn"] = "turn"
    """Name of the variant."""
    shorthand: ClassVar[str] = "degrees"
    degrees: float = 90.0
    """How far."""


class Flip(VariantOptions):
    """A flip."""

    kind: Literal["flip"] = "flip"
    """Name of the variant."""


ACTIONS = Family("action", {"turn": Member("posixpath:join", f"{__name__}:Turn"), "flip": Member("posixpath:split", None)})


def one_of(family: Family, default: str | None = None) -> Any:
    return Annotated[VariantOptions, OneOf(family, default)]


def many_of(family: Family) -> Any:
    return Annotated[tuple[VariantOptions, ...], ManyOf(family)]


@pytest.fixture
def actions(monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.setattr(Family, "options", lambda self, name: {"turn": Turn, "flip": Flip}[name])
    return Family("action", dict(ACTIONS.builtin))


@pytest.mark.parametrize(
    ("given", "kind", "degrees"),
    [("turn", "turn", 90), ({"kind": "turn", "degrees": 5}, "turn", 5), ({"turn": {"degrees": 5}}, "turn", 5), ({"turn": None}, "turn", 90),
     ({"turn": 5}, "turn", 5), ({"degrees": 5}, "turn", 5), ("flip", "flip", None)],
)  # fmt: skip
def test_a_variant_may_be_spelt_in_several_ways(actions: Family, given: Any, kind: str, degrees: float | None) -> None:
    value = TypeAdapter(one_of(actions, default="turn")).validate_python(given)
    assert value.kind == kind
    assert getattr(value, "degrees", None) == degrees


def test_many_variants_keep_their_order_and_repeat(actions: Family) -> None:
    adapter = TypeAdapter(many_of(actions))
    assert [each.kind for each in adapter.validate_python(["flip", {"turn": 5}, "flip"])] == ["flip", "turn", "flip"]
    assert [each.kind for each in adapter.validate_python({"turn": {"degrees": 1}, "flip": {}})] == ["turn", "flip"]
    assert [each.kind for each in adapter.validate_python("flip")] == ["flip"]


@pytest.mark.parametrize("given", ["trun", {"turn": {"degree": 5}}, {"turn": {"degrees": "far"}}, 7])
def test_what_is_no_variant_is_refused(actions: Family, given: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(one_of(actions)).validate_python(given)
    assert list(variant_types(actions)) == ["turn", "flip"]


def test_a_bare_value_needs_a_shorthand_option(actions: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    types = variant_types(actions)
    with raises("variant.bare_value"):
        expand_variant({"flip": 1}, types)
    monkeypatch.setattr(Turn, "shorthand", None)
    with raises("variant.bare_value"):
        expand_variant({"turn": (1, 2)}, types)


def test_options_of_a_member_state_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Family, "options", lambda self, name: Turn)
    with raises("family.kind_missing", key="flip"):
        variant_types(Family("action", dict(ACTIONS.builtin)))


def test_variants_survive_pickling() -> None:
    assert pickle.loads(pickle.dumps(Turn(degrees=5))) == Turn(degrees=5)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with raises("name.unknown", key="action", value="trun", remedy="Did you mean 'turn'?"):
        ACTIONS.load("trun")
    assert did_you_mean("zzz", ["turn"]) == ""
    assert ACTIONS.options("flip") is None


def test_packages_add_members_but_may_not_take_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(name: str) -> list[Any]:
        entry = SimpleNamespace(name=name, dist=SimpleNamespace(name="other-package"), load=lambda: Member("posixpath:split"))
        assert EntryPoint(name, "posixpath:split", "morula.actions").load()
        return [entry]

    family = Family("action", dict(ACTIONS.builtin), group="morula.actions")
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries("shear"))
    assert family.names == ["turn", "flip", "shear"]
    assert family.load("shear")("a/b") == ("a", "b")
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries("turn"))
    with raises("name.duplicate", key="action", value="turn"):
        _ = Family("action", dict(ACTIONS.builtin), group="morula.actions").names


def test_options_are_strict_and_say_all_that_is_wrong() -> None:
    assert validated(Turn, None, "turn") == Turn()
    assert validated(Turn, Turn(degrees=3), "turn").degrees == 3
    with raises("option.type", key="turn.degrees", value="far") as caught:
        validated(Turn, {"degrees": "far", "degres": 1}, "turn")
    assert isinstance(caught.error, InvalidOptionsError)
    assert [problem.code for problem in caught.error.problems] == ["option.type", "option.unknown"]
    with raises("option.unknown", key="turn.degres", value=1, remedy="Did you mean 'degrees'?"):
        validated(Turn, {"degres": 1}, "turn")
    with pytest.raises(ValidationError):
        Turn().degrees = 4  # type: ignore[misc]


class Strict(Options):
    """One option per kind of error."""

    name: str
    """Its name. It is required."""
    size: int = Field(1, gt=0)
    mode: Literal["a", "b"] = "a"
    pair: tuple[int, int] = (0, 0)
    text: str = Field("x", max_length=3)
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise OptionError("number.odd", "must be even", remedy="Use an even number.")
        return value


@pytest.mark.parametrize(
    ("values", "code", "fields"),
    [
        ({}, "option.missing", {"key": "strict.name", "remedy": "Its name. Write name: VALUE."}),
        ({"name": "n", "size": 0}, "option.range", {"key": "strict.size", "value": 0, "rule": "must be greater than 0"}),
        ({"name": "n", "size": 1.5}, "option.type", {"key": "strict.size"}),
        ({"name": "n", "mode": "c"}, "option.choice", {"rule": "must be 'a' or 'b'"}),
        ({"name": "n", "pair": (1,)}, "option.missing", {"key": "strict.pair.1"}),
        ({"name": "n", "text": "long"}, "option.length", {"key": "strict.text"}),
        ({"name": "n", "sise": 1}, "option.unknown", {"value": 1, "remedy": "Did you mean 'size'?"}),
        ({"name": "n", "even": 3}, "number.odd", {"key": "strict.even", "value": 3, "remedy": "Use an even number."}),
    ],
)
def test_errors_of_pydantic_have_codes(values: dict[str, Any], code: str, fields: dict[str, Any]) -> None:
    with raises(code, **fields) as caught:
        validated(Strict, values, "strict")
    assert type(caught.error) is OptionError


def test_every_error_is_ours_and_the_builtin_that_it_resembles() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, MorulaError) and each is not MorulaError]
    assert len(kinds) >= 10
    assert all(len(each.__mro__) > len(MorulaError.__mro__) + 1 for each in kinds)


def test_a_job_error_holds_every_problem_with_its_place() -> None:
    problems = [Problem("a.b", "is wrong", 3, "job.yaml"), Problem("", "is no mapping"), Problem("c", "is missing", file="job.yaml")]
    error = JobError(problems)
    assert error.problems == problems
    assert str(error).splitlines() == ["job.yaml:3  a.b  is wrong", "is no mapping", "job.yaml  c  is missing"]
