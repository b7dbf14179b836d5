"""Microphones, through the optional package sounddevice (PortAudio)."""

from types import ModuleType
from typing import Any

import numpy as np

from moe_asr.errors import AudioError, MissingDependencyError
from moe_asr.recognizer.live_audio import BLOCK_SECONDS, LiveAudio


class Microphone(LiveAudio):
    """A microphone, or another input of the sound system.

    It is opened at ``wanted_rate`` if it can be, else at its own default rate; see `sample_rate`.

    Args:
        device: a number of `list_microphones`, a part of a name, or None for the default.
        wanted_rate: in Hz.
        max_seconds: of audio that may wait for being recognised; what comes then is dropped.

    Raises:
        MissingDependencyError: if there is no sounddevice, or no PortAudio.
        AudioError: naming the device, if it is not there or cannot be opened.
    """

    def __init__(
        self, device: int | str | None, wanted_rate: int, max_seconds: float = 30.0
    ) -> None:
        self._sounddevice = _import_sounddevice()
        self._device = device
        self._name = "the default microphone" if device is None else f"microphone '{device}'"
        self._stream: Any = None
        self._overflows = 0
        self._stopping = False
        super().__init__(self._possible_rate(wanted_rate), max_seconds)

    def start(self) -> None:
        try:
            self._stream = self._sounddevice.InputStream(
                samplerate=self.sample_rate,
                blocksize=max(round(BLOCK_SECONDS * self.sample_rate), 1),
                device=self._device,
                channels=1,
                dtype="float32",
                callback=self._captured,
                finished_callback=self._ended,
            )
            self._stream.start()
        except (ValueError, self._sounddevice.PortAudioError) as error:
            self.stop()
            raise AudioError(f"{self._name}: cannot be opened: {error}") from error

    def stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            if self._stream is not None:
                self._stream.close()
        super().stop()

    def _captured(self, samples_TC: np.ndarray, frames: int, time: Any, status: Any) -> None:
        """Called by PortAudio's thread, which must not be kept waiting."""
        if status.input_overflow:
            self._overflows += 1
        self._queue.put(samples_TC[:, 0].copy())

    def _ended(self) -> None:
        self._queue.close(
            None if self._stopping else AudioError(f"{self._name}: it gives no more audio")
        )

    def _take_notes(self) -> list[str]:
        overflows, self._overflows = self._overflows, 0
        lost = f"{self._name}: overrun, the sound system lost audio {overflows} time(s)"
        return [lost] * bool(overflows) + super()._take_notes()

    def _possible_rate(self, wanted: int) -> int:
        sounddevice = self._sounddevice
        try:
            found = sounddevice.query_devices(self._device, "input")
            try:
                sounddevice.check_input_settings(
                    device=self._device, channels=1, dtype="float32", samplerate=wanted
                )
                return wanted
            except sounddevice.PortAudioError:
                return round(found["default_samplerate"])
        except (ValueError, sounddevice.PortAudioError) as error:
            raise AudioError(f"{self._name}: {error}") from error


def list_microphones() -> str:
    """A line for each input of the sound system: number, name, channels, usual rate; ``*``: the default.

    Raises:
        MissingDependencyError: if there is no sounddevice, or no PortAudio.
        AudioError: if there are no inputs, or the sound system cannot tell.
    """
    sounddevice = _import_sounddevice()
    try:
        devices = list(sounddevice.query_devices())
        default = sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise AudioError(f"the sound system cannot tell its inputs: {error}") from error
    lines = [
        f"{'*' if device['index'] == default else ' '} {device['index']:>3}  {device['name']}  "
        f"({device['max_input_channels']} channels, {device['default_samplerate']:.0f} Hz)"
        for device in devices
        if device["max_input_channels"] > 0
    ]
    if not lines:
        raise AudioError("the sound system has no input")
    return "\n".join(lines)


def _import_sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingDependencyError(
            "microphones need sounddevice, which is absent: pip install 'moe-asr[live]' "
            "(--stdin takes raw audio without it)"
        ) from error
    except OSError as error:  # sounddevice is there, the library that it wraps is not
        raise MissingDependencyError(
            f"microphones need the library PortAudio ({error}): install libportaudio2, or "
            "what your system calls it"
        ) from error
    return sounddevice
