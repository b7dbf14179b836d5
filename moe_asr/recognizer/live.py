"""Recognises audio while it is captured, and shows what is found."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from moe_asr.errors import AudioError
from moe_asr.recognizer.display import Display
from moe_asr.recognizer.live_audio import LiveAudio

if TYPE_CHECKING:
    from moe_asr.fsa.context_phrases import Phrase
    from moe_asr.recognizer.recognizer import Recognizer
    from moe_asr.recognizer.stream import Stream


def recognize_live(
    recognizer: "Recognizer",
    audio: LiveAudio,
    display: Display,
    is_stopped: Callable[[], bool] = lambda: False,
    phrases: "Sequence[Phrase] | None" = None,
    stream_id: str = "live",
) -> None:
    """Until the audio ends or a stop is wished for; what was captured before is recognised to its end.

    Args:
        audio: opened and closed here.
        display: is given every result, and what went wrong with the audio; it is left in order in any case.
        is_stopped: asked about ten times a second.
        phrases: to listen for.

    Raises:
        AudioError: if the audio fails; the results of what came before have been shown.
        MoeAsrError: if the stream fails.
    """
    failure: Exception | None = None
    try:
        with recognizer.create_stream(stream_id, phrases=phrases) as stream:
            with audio:
                try:
                    for block in audio.blocks(is_stopped):
                        for note in audio.notes():
                            display.note(note)
                        stream.accept_waveform(block, audio.sample_rate)
                        _show_all(recognizer, stream, display)
                except AudioError as error:
                    failure = error
                stream.input_finished()
                _show_all(recognizer, stream, display)
            for note in audio.notes(at_the_end=True):
                display.note(note)
    finally:
        display.close()
    if failure is not None:
        raise failure


def _show_all(recognizer: "Recognizer", stream: "Stream", display: Display) -> None:
    while recognizer.is_ready(stream):
        (results,) = recognizer.decode([stream])
        for result in results:
            display.show(result)
    if stream.failure is not None:
        raise stream.failure
