"""Job files of other programs as native jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from morula.core.errors import JobError, OptionError, Problem
from morula.core.events import Warned
from morula.dialects import program_of
from morula.dialects.biapy.settings import read_settings
from morula.dialects.biapy.today import todays_text
from morula.dialects.pytorch3dunet.convert import convert as convert_3dunet
from morula.dialects.pytorch3dunet.job import purpose_of, read_job
from morula.dialects.verbs import as_native
from morula.jobs.load import validate
from morula.jobs.yaml_lines import located, parse_documents


def convert(job: str | Path, *, to: str = "morula") -> tuple[str, list[Warned]]:
    """The native job of a job file of BiaPy or pytorch-3dunet, as text, and the keys that have no effect.

    Args:
        job: the file.
        to: ``morula``, or ``biapy`` for a job file of BiaPy 3.0 to 3.7 in the keys and spellings of 3.7.1.

    Raises:
        JobError: with all problems of the file, or when it has no counterpart.
        OptionError: when `to` does not fit the file.

    Examples:
        >>> text, warnings = convert("train_config.yml")  # doctest: +SKIP
    """
    program = program_of(job)
    if program is None:
        error = OptionError("convert.native", "is a native job already", remedy="Run it with `morula run`.")
        raise JobError([replace(Problem.of(error), file=Path(job).name)])
    if to != "morula":
        if to != "biapy" or program != "BiaPy":
            rule = f"cannot be made of a job of {program}" if to == "biapy" else "is not known; known are morula and biapy"
            raise OptionError("convert.to", rule, key="--to", value=to, remedy="Leave it out.")
        return todays_text(read_settings(job)), []
    if (foreign := as_native(job)) is not None:
        return foreign.text(), [Warned("convert.remark", str(remark)) for remark in foreign.remarks]
    with located(job):
        converted = convert_3dunet(read_job(job, purpose_of(job)))
    text = converted.text()
    validate(parse_documents(text)[0])  # a converted job that Morula rejects would be a bug: better seen here than when it is run
    return text, [Warned("convert.remark", str(remark)) for remark in converted.remarks]
