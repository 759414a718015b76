"""The command line of `./mesh`."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from grpc_common.client.target import TargetError, read_target
from localmesh import environment, screen, topology
from localmesh.failure import MeshError, UsageError, of_system
from localmesh.state import IN_THE_TREE, StateFolder

DESCRIPTION = "Runs all services behind real Envoy sidecars, with real certificates and databases, on this machine."
COMMANDS = (
    "attempts", "call", "completion", "demo", "down", "logs", "reference", "restart", "rotate", "status", "token",
    "trace", "up",
)  # fmt: skip
"""What is completed in a shell."""
EXIT_STATUSES = """exit status: 0 done (status: ready), 1 failed, 2 wrong usage, 3 status: up but not ready,
4 status and token: not running, 130 stopped by Ctrl-C before it was done. down: 0 also when nothing was running.
environment: MESHWORK_STATE, the folder for all state (.mesh in the checkout); MESHWORK_PYTHON, a Python 3.13."""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs a command; returns the exit status. `environ` is the environment of who gave it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(_parser().parse_args(given), given, environ)
    except MeshError as error:
        screen.complain(str(error), error.detail)
        return error.exit_status
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        screen.complain(of_system(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _run(given: argparse.Namespace, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Imports what the command needs and no more: `token` is not to wait for what `demo` needs."""
    state = StateFolder(given.state or environment.state_folder(IN_THE_TREE, environ))
    match given.command:
        case "down":
            from localmesh.commands.down import down

            return down(state)
        case "logs":
            from localmesh.commands.logs import logs

            return logs(state, given.name, follow=given.follow)
        case "trace":
            from localmesh.commands.trace import trace

            return trace(state, given.id, count=given.last, as_json=given.json)
        case "restart":
            from localmesh.commands.restart import restart

            return restart(state, given.name)
        case "rotate":
            from localmesh.commands.rotate import rotate

            return rotate(state, authority=given.authority, keys=given.keys)
        case "token":
            from localmesh.commands.token import token

            return token(state, [role for role in given.roles.split(",") if role])
        case "completion":
            from localmesh.commands.completion import completion

            return completion()
    described = topology.read(given.topology)
    match given.command:
        case "call":
            from localmesh.commands.call import Call, call

            roles = [role for role in given.roles.split(",") if role]
            return call(
                described, state, Call(given.service, given.method, given.request, given.timeout, roles, given.list)
            )
        case "complete":
            from localmesh.commands.completion import complete

            return complete(described, COMMANDS, given.words)
        case "status":
            from localmesh.commands.show_status import show_status

            return show_status(described, state, as_json=given.json, watch=given.watch)
        case "attempts":
            from localmesh.commands.attempts import attempts

            return attempts(described)
        case "reference":
            from localmesh.commands.reference import reference

            return reference(described, write=given.write)
        case "demo":
            from localmesh.demo.demo import demo

            return demo(described, StateFolder(state.root / "demo"))
        case _:
            return _up(given, described, state, arguments, environ)


def _up(
    given: argparse.Namespace,
    described: topology.Topology,
    state: StateFolder,
    arguments: Sequence[str],
    environ: Mapping[str, str],
) -> int:
    from localmesh.commands import detached, up
    from localmesh.options import Options

    replicas = dict(given.replicas or ())
    asked = environment.asked_for(given.env or (), environ)
    environment.check_settings(environ.keys() - asked.keys(), described)
    options = Options(
        port=given.port,
        replicas=replicas,
        only=tuple(given.only or ()),
        sidecars=not given.no_sidecars,
        environment=asked,
        otlp=given.otlp,
    )
    options.instances(described)  # tells of a service that there is not
    if given.report_to is not None:
        return detached.report_to(given.report_to, described, state, options)
    if given.detach:
        return detached.detach(described, state, arguments, asked)
    return up.up(described, state, options)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help tells what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mesh", description=DESCRIPTION, epilog=EXIT_STATUSES, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--state", type=_folder, metavar="FOLDER", help="where all state stands")
    parser.add_argument("--topology", type=Path, default=topology.IN_THE_TREE, metavar="FILE", help="what to run")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("demo", help="start everything, show what it can do, stop", allow_abbrev=False)
    up = commands.add_parser("up", help="start everything; Ctrl-C stops it", allow_abbrev=False)
    up.add_argument("--detach", action="store_true", help="return when all is ready; `mesh down` stops it")
    up.add_argument("--replicas", type=_replicas, action="append", metavar="SERVICE=N", help="run more than one")
    up.add_argument("--only", action="append", metavar="SERVICE", help="run this service and not the others")
    up.add_argument("--no-sidecars", action="store_true", help="let the ingress talk to the services in the clear")
    up.add_argument("--port", type=_port, metavar="N", help="the port of the ingress instead of the topology's")
    up.add_argument("--env", action="append", metavar="NAME[=VALUE]", help="give services this environment variable")
    up.add_argument("--otlp", type=_address, metavar="HOST:PORT", help="send all spans there, too (OTLP over gRPC)")
    up.add_argument("--report-to", type=int, help=argparse.SUPPRESS)
    commands.add_parser("down", help="stop what `up` started", allow_abbrev=False)
    status = commands.add_parser("status", help="how everything is", allow_abbrev=False)
    status.add_argument("--json", action="store_true", help="for scripts")
    status.add_argument("-w", "--watch", action="store_true", help="go on until Ctrl-C")
    restart = commands.add_parser("restart", help="one after the other, losing no call", allow_abbrev=False)
    restart.add_argument("name", metavar="NAME", help="items (all instances), items-sidecar, ingress, postgres")
    rotate = commands.add_parser("rotate", help="give everybody a new certificate now", allow_abbrev=False)
    what = rotate.add_mutually_exclusive_group()
    what.add_argument("--authority", action="store_true", help="of a new root")
    what.add_argument(
        "--keys", action="store_true", help="make the next version of the key that tokens are signed with"
    )
    commands.add_parser("attempts", help="how often a call can reach a server, at worst", allow_abbrev=False)
    reference = commands.add_parser("reference", help="the table of all RPCs, from their policies", allow_abbrev=False)
    reference.add_argument("--write", action="store_true", help="write it to docs/reference/rpcs.md")
    trace = commands.add_parser("trace", help="the way of a call through the mesh", allow_abbrev=False)
    trace.add_argument("id", nargs="?", metavar="ID", help="the start of a trace id; without it: the last ones")
    trace.add_argument("-n", "--last", type=int, default=20, metavar="N", help="how many of the last ones (20)")
    trace.add_argument("--json", action="store_true", help="for scripts")
    logs = commands.add_parser("logs", help="what the processes wrote", allow_abbrev=False)
    logs.add_argument("name", nargs="?", metavar="SERVICE", help="items, items-sidecar, ingress, postgres, ...")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    call = commands.add_parser("call", help="call a service through the ingress", allow_abbrev=False)
    call.add_argument("service", nargs="?", default="", metavar="SERVICE", help="items")
    call.add_argument("method", nargs="?", metavar="METHOD", help="GetItem; without it: what there is")
    call.add_argument("request", nargs="?", default="{}", metavar="JSON", help="or @FILE, or - for standard input; {}")
    call.add_argument("--list", action="store_true", help="list the methods of the service")
    call.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="instead of the policy's")
    call.add_argument("--roles", default="editor", metavar="A,B", help="the roles of the caller (editor)")
    completion = commands.add_parser("completion", help="print what completes names in a shell", allow_abbrev=False)
    completion.add_argument("shell", choices=["bash"], help='eval "$(./mesh completion bash)"')
    complete = commands.add_parser("complete", allow_abbrev=False)
    complete.add_argument("words", nargs="*")
    token = commands.add_parser("token", help="print an access token that is valid for ten minutes", allow_abbrev=False)
    token.add_argument("--roles", default="editor", metavar="A,B", help="the roles of the user it is for (editor)")
    return parser


def _folder(text: str) -> Path:
    if not text:  # of a shell's variable that is not set, and no wish for the working directory
        raise argparse.ArgumentTypeError("it names no folder")
    return Path(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def _replicas(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit() or not 1 <= int(number) <= 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not SERVICE=N with N from 1 to 9")
    return name, int(number)


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535")
    return int(text)


def _address(text: str) -> str:
    try:
        found = read_target(text)
    except TargetError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not found.host or found.uri != f"dns:///{text}":
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as localhost:4317")
    return text
