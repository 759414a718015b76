"""Drives a current ruff from the goals lint, fix and fmt.

The ruff backend of Pants 2.17 calls `ruff FILES`, which a current ruff refuses: lint would fail and fix would report
success without having changed anything. It does not know `ruff format` either. Its subsystem and its field set are used
here, its rules are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pants.backend.python.lint.ruff import skip_field, subsystem
from pants.backend.python.lint.ruff.subsystem import Ruff, RuffFieldSet
from pants.backend.python.util_rules import pex
from pants.backend.python.util_rules.pex import PexRequest, VenvPex, VenvPexProcess
from pants.core.goals.fix import FixResult, FixTargetsRequest
from pants.core.goals.fmt import FmtResult, FmtTargetsRequest
from pants.core.goals.lint import LintResult, LintTargetsRequest
from pants.core.util_rules.config_files import ConfigFiles, ConfigFilesRequest
from pants.core.util_rules.partitions import PartitionerType
from pants.core.util_rules.source_files import SourceFiles, SourceFilesRequest
from pants.engine.fs import Digest, MergeDigests, Snapshot
from pants.engine.process import FallibleProcessResult, ProcessExecutionFailure
from pants.engine.rules import Get, MultiGet, collect_rules, rule
from pants.option.global_options import KeepSandboxes
from pants.util.logging import LogLevel

RUFF_FAILED = 2  # as opposed to 1, "found something"; the goals fix and fmt would take it for success


class RuffLint(LintTargetsRequest):
    field_set_type = RuffFieldSet
    tool_subsystem = Ruff
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION


class RuffFix(FixTargetsRequest):
    field_set_type = RuffFieldSet
    tool_subsystem = Ruff
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION


class RuffFormat(FmtTargetsRequest):
    field_set_type = RuffFieldSet
    tool_subsystem = Ruff
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION
    tool_name = "ruff format"
    tool_id = "ruff-format"


@dataclass(frozen=True)
class RuffCall:
    """One run of ruff over the files of a snapshot."""

    snapshot: Snapshot
    command: tuple[str, ...]


@rule(level=LogLevel.DEBUG)
async def call_ruff(call: RuffCall, ruff: Ruff, keep_sandboxes: KeepSandboxes) -> FallibleProcessResult:
    tool, config = await MultiGet(
        Get(VenvPex, PexRequest, ruff.to_pex_request()),
        Get(ConfigFiles, ConfigFilesRequest, ruff.config_request(call.snapshot.dirs)),
    )
    inputs = await Get(Digest, MergeDigests((call.snapshot.digest, config.snapshot.digest)))
    result = await Get(
        FallibleProcessResult,
        VenvPexProcess(
            tool,
            argv=(*call.command, "--no-cache", *ruff.args, *call.snapshot.files),
            input_digest=inputs,
            output_files=call.snapshot.files,
            description=f"ruff {' '.join(call.command)}",
            level=LogLevel.DEBUG,
        ),
    )
    if result.exit_code >= RUFF_FAILED:
        raise ProcessExecutionFailure(
            result.exit_code, result.stdout, result.stderr, "ruff", keep_sandboxes=keep_sandboxes
        )
    return result


@rule(desc="Lint with ruff", level=LogLevel.DEBUG)
async def lint(request: RuffLint.Batch[RuffFieldSet, Any]) -> LintResult:
    sources = await Get(SourceFiles, SourceFilesRequest(field_set.source for field_set in request.elements))
    result = await Get(FallibleProcessResult, RuffCall(sources.snapshot, ("check",)))
    return LintResult.create(request, result, strip_chroot_path=True)


@rule(desc="Fix with ruff", level=LogLevel.DEBUG)
async def fix(request: RuffFix.Batch) -> FixResult:
    result = await Get(FallibleProcessResult, RuffCall(request.snapshot, ("check", "--fix")))
    return await FixResult.create(request, result, strip_chroot_path=True)


@rule(desc="Format with ruff", level=LogLevel.DEBUG)
async def format_(request: RuffFormat.Batch) -> FmtResult:
    result = await Get(FallibleProcessResult, RuffCall(request.snapshot, ("format",)))
    return await FmtResult.create(request, result, strip_chroot_path=True)


def rules():
    return [
        *collect_rules(),
        *RuffLint.rules(),
        *RuffFix.rules(),
        *RuffFormat.rules(),
        *pex.rules(),
        *skip_field.rules(),
        *subsystem.rules(),
    ]
