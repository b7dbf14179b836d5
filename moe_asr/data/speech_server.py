"""A process that speaks: each answer is what espeak-ng says first after its start.

The state of espeak-ng is global, cannot be set back, and changes what it says next. The server starts
the engine once and answers each request from a fork of itself, which is thrown away: so an answer
depends on its request alone. It is a small process of its own because a fork of one that has
imported torch costs twice as much as the speech.
"""

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import IO, Any

from moe_asr.data.espeak import EspeakSynthesizer
from moe_asr.data.speaking import Speaking, Speech, say
from moe_asr.errors import DataError, MissingDependencyError, MoeAsrError

_LENGTH = struct.Struct("<Q")


class SpeechServer:
    """The server as its client sees it. It ends with its client, or when it is closed.

    Raises:
        MissingDependencyError: if ``espeakng-loader`` is not installed, or processes cannot be forked.
    """

    def __init__(self) -> None:
        if not hasattr(os, "fork"):
            raise MissingDependencyError("synthetic speech needs os.fork, which is not on Windows")
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moe_asr.data.speech_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )

    def speak(self, speakings: Sequence[Speaking], sample_rate: int) -> list[Speech]:
        """Says texts one after the other: see `moe_asr.data.speaking.say`.

        Raises:
            DataError: if one cannot be said.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            _send(self._process.stdin, (tuple(speakings), sample_rate))
            answer = _receive(self._process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise DataError(
                f"the process of espeak-ng ended at '{speakings[0].text}' "
                f"(exit status {self._process.wait()})"
            ) from error
        if isinstance(answer, MoeAsrError):
            raise answer
        return answer

    def close(self) -> None:
        """Ends the server."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, with requests unread
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def speak(speakings: Sequence[Speaking], sample_rate: int) -> list[Speech]:
    """`SpeechServer.speak` of a server that this process keeps."""
    return _server_of(os.getpid()).speak(speakings, sample_rate)


@lru_cache(maxsize=1)
def _server_of(process_id: int) -> SpeechServer:
    """One for each process: a fork must not talk to the server of the process it came from."""
    return SpeechServer()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers requests until there are no more."""
    engine: EspeakSynthesizer | MoeAsrError
    try:
        engine = EspeakSynthesizer()
    except MoeAsrError as error:
        engine = error
    while True:
        try:
            speakings, sample_rate = _receive(requests)
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with contextlib.suppress(BrokenPipeError):  # the client is gone, and so are we soon
                    _send(answers, _answer(engine, speakings, sample_rate))
                status = 0
            finally:
                os._exit(status)  # without the exit handlers of the original
        _, status = os.waitpid(child, 0)
        if status != 0:
            sys.exit(f"speech server: a fork ended with status {status}")


def _answer(
    engine: EspeakSynthesizer | MoeAsrError, speakings: Sequence[Speaking], sample_rate: int
) -> list[Speech] | MoeAsrError:
    if isinstance(engine, MoeAsrError):
        return engine
    try:
        return [say(engine, what, sample_rate) for what in speakings]
    except MoeAsrError as error:
        return error


def _send(stream: IO[bytes], value: Any) -> None:
    content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    """The next value; `EOFError` if the stream ends before it is whole. Our own processes only."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(header)
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return pickle.loads(content)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when its client does
    # nothing but answers may be written where the client reads
    answers_ = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers_)
