"""The questions and the output of `morula new`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morula.cli.printing import print_events
from morula.cli.show import Verbosity, echo, echo_error
from morula.core.errors import MissingExtraError, MorulaError, OptionError
from morula.core.events import Event
from morula.core.outputs import Destination, check_outputs
from morula.jobs.bundled import is_name
from morula.nn.options import AUTO
from morula.workflows.interview import OWN, PLANES, Interview, Question
from morula.workflows.questions import answers_of, next_question, segment_command
from morula.workflows.reading import Reading
from morula.workflows.run_settings import default_output

if TYPE_CHECKING:
    from morula.cli.options import NewJobOptions
    from morula.workflows.new_plan import Plan

_OF_OPTIONS = {"labels": {"labelling": "all"}, "mask": {"labelling": "part"}, "test": {"purpose": "both"}}
"""Answers that follow from an option; later ones replace earlier ones."""


def write_job(
    job: Path, options: NewJobOptions, reading: Reading, *, ask: bool, verbosity: Verbosity, overwrite: bool, **limits: Any
) -> str:
    """Ask what the options do not state, plan the job, write it and print what was planned.

    Returns:
        when it runs: ``here``, ``cluster`` or ``later``; empty where no job is needed.

    Raises:
        MorulaError: for an answer that cannot be used, and as `morula.workflows.new.plan_steps`.
    """
    check_outputs([Destination(job, key="job", proven=True)], overwrite=overwrite)  # before the questions, not after them
    interview = interview_of(options.answers(), reading, no_labels=options.no_labels, ask=ask)
    if ask:
        interview = asked_on_terminal(interview)
    if not interview.trained:
        echo(segment_command(interview))
        return ""
    plan = planned(job, interview, verbosity, overwrite=overwrite, **limits)
    plan.write(overwrite=overwrite)
    print_plan(plan)
    where = interview.answer("where") or "later"
    echo(f"wrote {job}")
    if where == "cluster":
        echo(f"run it on a cluster: {plan.cluster_command()}")
    elif where == "later":
        echo(f"run it: {plan.run_command()}")
    if interview.answer("axes") == PLANES:
        command = f"morula segment VOLUME --model {default_output(job)} --slices z"
        echo(f"then, on volumes: {command}")
    return where


def interview_of(given: Mapping[str, str], reading: Reading, *, no_labels: bool, ask: bool) -> Interview:
    """The answers that the options give; without questions, the proposed ones for everything else.

    Raises:
        OptionError: when labels are given and denied, or something is missing that may not be asked for.
    """
    if no_labels and "labels" in given:
        raise OptionError("new.labels_denied", "is given together with --no-labels", key="--labels", remedy="Give one of the two.")
    follows = {name: value for key in _OF_OPTIONS if key in given for name, value in _OF_OPTIONS[key].items()}
    follows |= {"labelling": "none"} if no_labels else {}
    interview = Interview({**follows, **_under_their_questions(given)}, reading)
    return interview if ask else _proposed(interview)


def _under_their_questions(given: Mapping[str, str]) -> dict[str, str]:
    """Options by the question that each answers."""
    found = dict(given)
    start = found.get("start", "none")
    if start not in ("none", AUTO) and not is_name(start):
        found |= {"start": OWN, "weights": start}
    if found.get("task") == "semantic" and "class_names" in found:
        found["pixel_classes"] = found.pop("class_names")
    return found


def _proposed(interview: Interview) -> Interview:
    """The proposed answers to everything that was not answered; there must be enough to write a job that can be trained."""
    if "purpose" not in interview.given:
        interview = interview.answered("purpose", "train")
    for key in ("raw", "labels"):
        if (key == "raw" or interview.labelled) and not interview.answer(key):
            remedy = "Give it, or --no-labels." if key == "labels" else "Give it."
            raise OptionError("new.missing_option", "is required together with --yes", key=f"--{key}", remedy=remedy)
    while (question := next_question(interview)) is not None:
        interview = interview.answered(question.key, "")
    return interview


def asked_on_terminal(interview: Interview, **terminal: Any) -> Interview:
    """The interview with all questions answered on the terminal. Each answer is checked before the next question.

    Args:
        interview: answers that are not asked for.
        terminal: `input` and `output` of prompt_toolkit, for tests.

    Raises:
        OptionError: without a terminal.
        MissingExtraError: when questionary is not installed.
        KeyboardInterrupt: for Ctrl-C.
    """
    if not (terminal or on_terminal()):
        remedy = "Use --yes with the options --raw and --labels."
        raise OptionError("new.no_terminal", "can only be asked on a terminal", key="questions", remedy=remedy)
    while (question := next_question(interview)) is not None:
        answer = _ask(question, interview, terminal)
        interview = interview.answered(question.key, answer)
        echo(f"  {question.consequence(interview)}")
    return interview


def on_terminal() -> bool:
    """Whether somebody can answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def _ask(question: Question, interview: Interview, terminal: Mapping[str, Any]) -> str:
    """One answer that can be used."""
    try:
        import questionary  # a fifth of a second, which only the questions need
    except ImportError as error:
        raise MissingExtraError("new.no_questionary", "is not installed", key="questionary", remedy="Install it, or use --yes.") from error
    if question.check is None:
        choices = [questionary.Choice(choice.title, choice.value, description=choice.consequence) for choice in question.choices(interview)]
        proposed = question.default(interview)
        return str(questionary.select(question.text, choices, default=proposed, instruction=f"({question.help})", **terminal).unsafe_ask())
    validate = _validator(question, interview)
    text = f"{question.text}{' (empty: ' + question.empty + ')' if question.empty else ''}"
    kind = questionary.path if question.kind in ("images", "path") else questionary.text
    return str(kind(f"{text}\n  {question.help}\n ", validate=validate, validate_while_typing=False, **terminal).unsafe_ask())


def _validator(question: Question, interview: Interview) -> Callable[[str], bool | str]:
    """For questionary: true, or what is wrong."""

    def valid(answer: str) -> bool | str:
        try:
            question.consequence(interview.answered(question.key, answer))
        except MorulaError as error:
            return str(error)
        return True

    return valid


def planned(job: Path, interview: Interview, verbosity: Verbosity, **limits: Any) -> Plan:
    """Plan the job of an interview and print what is done meanwhile. `limits` as of `morula.workflows.new.plan_steps`."""
    from morula import workflows

    answers = answers_of(interview)
    plans: list[Plan] = []

    def steps() -> Generator[Event, None, None]:
        plans.append((yield from workflows.new.plan_steps(job, answers, minutes=answers.minutes, **limits)))

    print_events(steps(), verbosity)
    return plans[0]


def print_plan(plan: Plan) -> None:
    """Print the images, the plan, and the trials that it was chosen by."""
    for title, lines in plan.sections().items():
        echo(f"{title}:")
        for line in lines:
            echo(f"  {line}")
    for note in plan.notes:
        echo_error(f"note: {note}")
