"""Text to speech by espeak-ng, through ctypes, from the wheel ``espeakng-loader``."""

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moe_asr.errors import DataError, MissingDependencyError

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_DONT_EXIT = 0x8000  # without it espeak-ng ends the process when its data are missing
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_POSITION_CHARACTER = 1
_CHARACTERS_UTF8 = 1
_PHONEMES_IPA = 0x02
_SEPARATOR = (
    "_"  # between phoneme names; part of no name, except that of a pause, where it comes first
)
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7


class _RawEvent(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_RawEvent)
)


class SpeechEvent(NamedTuple):
    """Where a word or a phoneme begins.

    Attributes:
        phoneme: espeak-ng's name of the phoneme, with its stress mark (``'aI``, ``_:`` for a pause);
            empty for a word.
        character: for a word, the first character of the text that it is made of, from 0.
        sample: the first sample.
    """

    phoneme: str
    character: int
    sample: int


class EspeakSynthesizer:
    """The espeak-ng engine. Its state is global: use one per process, from one thread.

    What it says depends a little on what it said before (the flutter of a voice goes on where it
    stopped): where the same call must give the same samples, let it be the first of a process.

    Attributes:
        sample_rate: of what `synthesize` returns, in Hz.

    Raises:
        MissingDependencyError: if the wheel is not installed.
        DataError: if the engine does not start; by its methods, if a voice or its variant is unknown, or
            a text has a null character.
    """

    def __init__(self) -> None:
        library = _load_library()
        library.espeak_Initialize.argtypes = [
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
        ]
        library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,  # text
            ctypes.c_size_t,  # size with the final zero
            ctypes.c_uint,  # first position
            ctypes.c_int,  # kind of position
            ctypes.c_uint,  # last position
            ctypes.c_uint,  # flags
            ctypes.c_void_p,  # identifier
            ctypes.c_void_p,  # user data
        ]
        library.espeak_TextToPhonemes.argtypes = [
            ctypes.POINTER(ctypes.c_void_p),  # text; moved on to the next clause
            ctypes.c_int,  # encoding
            ctypes.c_int,  # kind of names, and separator
        ]
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data_path = _data_path().encode()
        self.sample_rate = int(
            library.espeak_Initialize(
                _AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path, _DONT_EXIT | _PHONEME_EVENTS
            )
        )
        if self.sample_rate <= 0:
            raise DataError(f"espeak-ng does not start with its data in {data_path.decode()}")
        self._chunks: list[np.ndarray] = []
        self._events: list[SpeechEvent] = []
        self._callback = _Callback(self._collect)  # kept: espeak-ng holds only its address
        library.espeak_SetSynthCallback(self._callback)
        self._library = library
        self._voice: str | None = None

    def synthesize(
        self,
        text: str,
        voice: str = "en-us",
        rate: int = 170,
        pitch: int = 50,
        pitch_range: int = 50,
        volume: int = 100,
    ) -> np.ndarray:
        """Speaks ``text``: (num_samples,) float32 in [-1, 1].

        Args:
            voice: a language and, optionally, a variant: ``en-us+m3``.
            rate: words per minute, 80 to 450.
            pitch, pitch_range: 0 to 100.
            volume: 0 to 200, 100 is normal.
        """
        return self.speak(text, voice, rate, pitch, pitch_range, volume)[0]

    def speak(
        self,
        text: str,
        voice: str = "en-us",
        rate: int = 170,
        pitch: int = 50,
        pitch_range: int = 50,
        volume: int = 100,
    ) -> tuple[np.ndarray, list[SpeechEvent]]:
        """Like `synthesize`; with the events, in order of time.

        A word has an event only where it begins a stretch of phonemes of its own: espeak-ng speaks
        some pairs (``in the``) as one. See `moe_asr.data.word_times`.
        """
        encoded = _encoded(text)
        self._set_voice(voice)
        parameters = {_RATE: rate, _VOLUME: volume, _PITCH: pitch, _RANGE: pitch_range}
        for parameter, value in parameters.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        self._events.clear()
        status = self._library.espeak_Synth(
            encoded + b"\0",
            len(encoded) + 1,
            0,
            _POSITION_CHARACTER,
            0,
            _CHARACTERS_UTF8,
            None,
            None,
        )
        if status != 0 or not self._chunks:
            raise DataError(f"espeak-ng failed on '{text}' with voice '{voice}' (status {status})")
        samples = np.concatenate(self._chunks).astype(np.float32) / 32768.0
        return samples, list(self._events)

    def phonemes(self, text: str, voice: str = "en-us", ipa: bool = False) -> list[str]:
        """How the voice pronounces ``text``: names of phonemes, vowels with their stress marks.

        Args:
            ipa: names in the International Phonetic Alphabet, instead of espeak-ng's ASCII names.
        """
        self._set_voice(voice)
        mode = ord(_SEPARATOR) << 8 | (_PHONEMES_IPA if ipa else 0)
        buffer = ctypes.create_string_buffer(_encoded(text))
        position = ctypes.c_void_p(ctypes.addressof(buffer))
        names: list[str] = []
        while position.value is not None:
            clause = self._library.espeak_TextToPhonemes(
                ctypes.byref(position), _CHARACTERS_UTF8, mode
            )
            for word in clause.decode().split():
                names.extend(name for name in word.split(_SEPARATOR) if name)
        return names

    def _set_voice(self, voice: str) -> None:
        if voice != self._voice:
            _, plus, variant = voice.partition("+")
            known = not plus or (Path(_data_path(), "voices", "!v") / variant).is_file()
            # of a variant that it does not know espeak-ng says nothing, and speaks without
            if not known or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise DataError(f"espeak-ng has no voice '{voice}'")
            self._voice = voice

    def _collect(self, samples: Any, num_samples: int, events: Any) -> int:
        if samples and num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        index = 0
        while events and events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_WORD:
                self._events.append(SpeechEvent("", event.text_position - 1, event.sample))
            elif event.type == _EVENT_PHONEME:
                name = event.string.decode()  # up to the first zero
                self._events.append(SpeechEvent(name, event.text_position - 1, event.sample))
            index += 1
        return 0


def espeak_version() -> str:
    """The version of espeak-ng, without starting it.

    Raises:
        MissingDependencyError: if the wheel is not installed.
    """
    library = _load_library()
    return library.espeak_Info(None).decode()


def _encoded(text: str) -> bytes:
    if "\0" in text:
        raise DataError(f"espeak-ng would stop at the null character of {text!r}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # bytes of a command line that are not UTF-8
        raise DataError(f"no Unicode text, which espeak-ng could say: {text!r}") from error


def _data_path() -> str:
    import espeakng_loader

    return espeakng_loader.get_data_path()


def _load_library() -> Any:
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingDependencyError(
            "synthetic speech needs espeak-ng: pip install espeakng-loader"
        ) from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Info.restype = ctypes.c_char_p
    return library
