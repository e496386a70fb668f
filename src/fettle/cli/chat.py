"""``fettle chat``."""

import sys
from typing import Annotated

import typer

from fettle.cli import options


def chat(
    run: options.RunDir,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Ask this once and end.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Base and tuned, one under the other.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 = always the likeliest.")] = 0.0,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens.")
    ] = None,
) -> None:
    """Talk to a run's model; the answer appears as it is written. /new starts afresh, /quit ends.

    Examples:

      fettle chat runs/support

      fettle chat runs/support --compare --prompt "Where is my order?"
    """
    from fettle import api
    from fettle.records.rows import Message

    found = api.chat(run, compare=compare, max_new_tokens=max_new_tokens)
    speakers = [speaker for speaker in (found.base, found.tuned) if speaker is not None]
    histories = [list(found.system) for _ in speakers]
    while True:
        text = prompt
        if text is None:
            try:
                text = input("you> " if sys.stdin.isatty() else "")
            except (EOFError, KeyboardInterrupt):
                return
            if text.strip() == "/quit":
                return
            if text.strip() == "/new":
                histories = [list(found.system) for _ in speakers]
                continue
            if not text.strip():
                continue
        for speaker, history in zip(speakers, histories, strict=True):
            history.append(Message("user", text))
            if len(speakers) > 1:
                print(f"{speaker.name}> ", end="")
            answer = ""
            for piece in speaker.answer(history, temperature):
                print(piece, end="", flush=True)
                answer += piece
            print(flush=True)
            history.append(Message("assistant", answer))
        if prompt is not None:
            return
