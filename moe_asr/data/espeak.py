"""Text to speech by espeak-ng, through ctypes, from the wheel ``espeakng-loader``."""

import ctypes
from typing import Any

import numpy as np

from moe_asr.errors import DataError, MissingDependencyError

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000  # without it espeak-ng ends the process when its data are missing
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_POSITION_CHARACTER = 1
_CHARACTERS_UTF8 = 1

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class EspeakSynthesizer:
    """The espeak-ng engine. Its state is global: use one per process, from one thread.

    Attributes:
        sample_rate: of what `synthesize` returns, in Hz.

    Raises:
        MissingDependencyError: if the wheel is not installed.
        DataError: if the engine does not start or the voice is unknown.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise MissingDependencyError(
                "synthetic speech needs espeak-ng: pip install espeakng-loader"
            ) from error
        library = ctypes.CDLL(espeakng_loader.get_library_path())
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
        data_path = espeakng_loader.get_data_path().encode()
        self.sample_rate = int(
            library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path, _DONT_EXIT)
        )
        if self.sample_rate <= 0:
            raise DataError(f"espeak-ng does not start with its data in {data_path.decode()}")
        self._chunks: list[np.ndarray] = []
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
        if voice != self._voice:
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise DataError(f"espeak-ng has no voice '{voice}'")
            self._voice = voice
        parameters = {_RATE: rate, _VOLUME: volume, _PITCH: pitch, _RANGE: pitch_range}
        for parameter, value in parameters.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        encoded = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            encoded, len(encoded), 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None
        )
        if status != 0 or not self._chunks:
            raise DataError(f"espeak-ng failed on '{text}' with voice '{voice}' (status {status})")
        return np.concatenate(self._chunks).astype(np.float32) / 32768.0

    def _collect(self, samples: Any, num_samples: int, events: Any) -> int:
        if samples and num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        return 0
