"""The command line: the same pipelines, limits and messages as the page. Results on stdout, the rest on stderr."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from demos import cli_print
from demos.replies import explain
from demos.text import say
from demos.visitor import LANGUAGES, language
from pipelines.core.errors import Cancelled, DemoError, InvalidInput
from pipelines.core.params import add_arguments, knobs
from pipelines.core.settings import Settings
from pipelines.core.specs import TASKS
from pipelines.core.streaming import Done, Job, Progress, Stop, Stream, TextDelta
from pipelines.house import House, pipeline_class
from pipelines.loaders.devices import spare_a_core

INTERRUPTED = 130  # what a shell expects after Ctrl-C

EVALUATED = {  # what an evaluation can be told beside the task's own knobs
    "captioning": ("method", "language", "limit", "gallery"),
    "retrieval": ("method", "language", "limit"),
    "speech": ("limit",),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A subcommand that runs one task; `output` is the file it writes unless told otherwise."""

    task: str
    positional: tuple[str, ...]
    output: str = ""


COMMANDS = {
    "chat": Command("reasoning", ()),
    "reason": Command("reasoning", ()),
    "speak": Command("speech", ("text",), "speech.wav"),
    "caption": Command("captioning", ("image",)),
    "generate": Command("text_to_image", ("prompt",), "picture.png"),
    "search": Command("retrieval", ("query", "gallery")),
    "emotion": Command("emotion", ()),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 1 for another failure, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    lang = spoken(argv)
    args = build_parser(argv, lang).parse_args(argv)
    spare_a_core()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _run(args, lang)
    except (KeyboardInterrupt, Cancelled):
        _complain(Cancelled("cancelled"), lang)
        return INTERRUPTED
    except DemoError as error:
        _complain(error, lang)
        return error.exit_code
    except BrokenPipeError:  # the reader has enough (| head); nothing more may be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def spoken(argv: Sequence[str]) -> str:
    """The language of --lang, else of the environment."""
    given = _common("en").parse_known_args(argv)[0]
    return language(getattr(given, "lang", None) or os.environ.get("LC_ALL") or os.environ.get("LANG", ""))


def _run(args: argparse.Namespace, lang: str) -> int:
    settings = _settings(args)
    if args.command is None:
        from demos.server import serve

        return serve(settings)
    house = House(settings)
    try:
        if args.command in COMMANDS:
            return Session(house, args, lang).run()
        return {"models": _models, "doctor": _doctor, "evaluate": _evaluate}[args.command](house, args, lang)
    finally:
        house.close()


def _settings(args: argparse.Namespace) -> Settings:
    names = ("device", "budget_mb", "host", "port", "pin", "mcp")
    flags: dict[str, Any] = {name: getattr(args, name, None) for name in names}
    try:
        return Settings.read(offline=getattr(args, "offline", None), **flags)
    except ValueError as error:
        raise InvalidInput("bad_setting", detail=str(error)[:200]) from None


def _complain(error: DemoError, lang: str) -> None:
    sys.stderr.write(f"\n{say('cli_error', lang)}: {explain(error, lang)} [{error.code}]\n")


# -- what can be asked ------------------------------------------------------------------------------


def build_parser(argv: Sequence[str] = (), lang: str = "en") -> argparse.ArgumentParser:
    """The whole command line. Only the command in `argv` gets its pipeline's flags, for that imports the pipeline."""

    def told(key: str) -> str:
        return say(f"cli_help_{key}", lang)

    common = _common(lang)
    parser = argparse.ArgumentParser(prog="app.py", description=told("program"), parents=[common])
    parser.add_argument("--host", help=told("host"))
    parser.add_argument("--port", type=int, help=told("port"))
    parser.add_argument("--pin", help=told("pin"))
    parser.add_argument("--mcp", action="store_true", default=None, help=told("mcp"))
    commands = parser.add_subparsers(dest="command")
    for name, command in COMMANDS.items():
        _add_task(commands.add_parser(name, parents=[common], help=told(name)), name, command, name in argv)
    for name in ("models", "doctor"):
        commands.add_parser(name, parents=[common], help=told(name))
    evaluate = commands.add_parser("evaluate", parents=[common], help=told("evaluate"))
    evaluate.add_argument("task", choices=TASKS)
    evaluate.add_argument("--data", required=True, type=Path, help=told("data"))
    evaluate.add_argument("--model", default="")
    evaluate.add_argument("--method", help=told("method"))
    evaluate.add_argument("--voice", help=told("voice"))
    evaluate.add_argument("--limit", type=int, help=told("limit"))
    evaluate.add_argument("--adapter", dest="adapters", action="append", default=[], metavar="ID[:WEIGHT]")
    evaluate.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    return parser


def _common(lang: str) -> argparse.ArgumentParser:
    """Flags that may stand before or after the command."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--offline", action="store_true", help=say("cli_help_offline", lang))
    common.add_argument("--device", help="auto | cpu | cuda | mps")
    common.add_argument("--budget-mb", type=int, help=say("cli_help_budget", lang))
    common.add_argument("--lang", choices=LANGUAGES)
    common.add_argument("--json", action="store_true", help=say("cli_help_json", lang))
    return common


def _add_task(parser: argparse.ArgumentParser, name: str, command: Command, asked: bool) -> None:
    if not asked:
        return
    if command.task == "reasoning":
        parser.add_argument("prompt", nargs="?", help="what to say; without it, lines are read from stdin")
    if command.task == "emotion":
        parser.add_argument("sentence", nargs="?", help="the text to read")
    if command.output:
        parser.add_argument("-o", "--output", type=Path, default=Path(command.output))
    add_arguments(parser, pipeline_class(command.task).Params, positional=command.positional)
    if name == "reason":
        parser.set_defaults(strategy="chain_of_thought")


# -- running one task -------------------------------------------------------------------------------


class Session:
    """One command's talk with a pipeline."""

    def __init__(self, house: House, args: argparse.Namespace, lang: str) -> None:
        self.house = house
        self.args = args
        self.lang = lang
        self.json = getattr(args, "json", False)
        self.command = COMMANDS[args.command]

    def run(self) -> int:
        raw = self._raw()
        if self.command.task == "reasoning" and "messages" not in raw:
            return self._talk(raw)
        self._answer(raw)
        return 0

    def _raw(self) -> dict[str, Any]:
        """The flags that were given, files as paths: here the visitor owns the machine."""
        raw: dict[str, Any] = {}
        for knob in knobs(pipeline_class(self.command.task).Params):
            value = getattr(self.args, knob.name, None)
            if value is None:
                continue
            if knob.kind == "images":
                value = [Path(item) for item in value]
            elif knob.kind in ("image", "audio"):
                value = Path(value)
            raw[knob.name] = value
        if sentence := getattr(self.args, "sentence", None):
            raw["text"] = sentence
        if prompt := getattr(self.args, "prompt", None):
            raw |= {"messages": [{"role": "user", "content": prompt}]} if self.command.task == "reasoning" else {}
        return raw

    def _talk(self, raw: dict[str, Any]) -> int:
        """A conversation over stdin, a line a turn."""
        messages: list[dict[str, str]] = []
        while True:
            if sys.stdin.isatty():
                sys.stderr.write("> ")
            line = sys.stdin.readline()
            if not line:
                return 0
            if line.strip():
                messages.append({"role": "user", "content": line.strip()})
                result = self._answer({**raw, "messages": messages})
                messages.append({"role": "assistant", "content": result.text})

    def _answer(self, raw: dict[str, Any]) -> Any:
        stream = self.house.stream(self.command.task, raw)
        streams_text = self.command.task == "reasoning" and not self.json
        result = watch(stream, self.lang, sys.stdout.write if streams_text else None)
        output = getattr(self.args, "output", None)
        names = [path.name for path in raw.get("gallery", ())]
        cli_print.show(self.command.task, result, self.lang, as_json=self.json, output=output, names=names)
        return result


def watch(stream: Stream, lang: str, write: Callable[[str], Any] | None = None) -> Any:
    """A job's Result, its progress on stderr and its text to `write`; Ctrl-C stops the job and waits for it."""
    teller = cli_print.Teller(lang)
    try:
        for event in stream:
            if isinstance(event, Progress):
                teller.tell(event)
            elif isinstance(event, TextDelta) and write is not None:
                teller.clear()
                write(event.text)
                sys.stdout.flush()
            elif isinstance(event, Done):
                return event.result
    except KeyboardInterrupt:
        stream.close()
        stream.join(10)
        raise
    finally:
        teller.clear()
    raise Cancelled("cancelled")


# -- the other commands -----------------------------------------------------------------------------


def _models(house: House, args: argparse.Namespace, lang: str) -> int:
    cli_print.models(house, lang, as_json=getattr(args, "json", False))
    return 0


def _doctor(house: House, args: argparse.Namespace, lang: str) -> int:
    from demos import doctor

    report = doctor.report(house)
    text = json.dumps(report, ensure_ascii=False, indent=1) if hasattr(args, "json") else doctor.text(report, lang)
    sys.stdout.write(text + "\n")
    return 0


def _evaluate(house: House, args: argparse.Namespace, lang: str) -> int:
    options = dict(_option(text) for text in args.option)
    flags = {name: getattr(args, name) for name in ("model", "adapters", "method", "voice", "limit")}
    if "language" in EVALUATED.get(args.task, ()):
        flags["language"] = getattr(args, "lang", None)
    options = _checked(args.task, options | {name: value for name, value in flags.items() if value})
    if not args.data.is_file():
        raise InvalidInput("no_such_file", name=args.data.name[:80])

    def compute(job: Job) -> dict[str, float]:
        return house.pipeline(args.task).evaluate(args.data, job, **options)

    figures = watch(house.start(args.task, lambda: compute, stop=Stop()), lang)
    cli_print.figures(figures, as_json=getattr(args, "json", False))
    return 0


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _checked(task: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options by the same rules as a request's: those that are knobs of the task are coerced to the knob's type."""
    from pipelines.core.params import coerce

    declared = {knob.name: knob for knob in knobs(pipeline_class(task).Params)}
    known = {**declared, **dict.fromkeys(EVALUATED.get(task, ()))}
    if unknown := sorted(set(options) - set(known)):
        raise InvalidInput("unknown_parameter", name=unknown[0][:80], known=", ".join(known))
    return {name: coerce(declared[name], value) if name in declared else value for name, value in options.items()}
