"""From cuts to hypotheses: features, encoder, search, each timed.

Legend: N utterances, T feature frames, F bins, S encoder frames, C tokens, D model dimension.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar, Union

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from moe_asr.audio.fbank import make_batch_fbank
from moe_asr.data.dataset import load_waveform
from moe_asr.decode.registry import DecodingMethod, EncodedBatch, Hypothesis
from moe_asr.decode.streaming import encode_in_chunks
from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from moe_asr.model.directory import LoadedModel
    from moe_asr.model.u2 import U2MoeModel

_MODE = re.compile(r"chunk([1-9]\d*)(?:-left(\d+))?")


@dataclass(frozen=True)
class DecodingMode:
    """The context that the encoder sees.

    Attributes:
        name: ``full``, ``chunk16``, or ``chunk16-left4`` for a left context of four chunks.
        chunk_size: in encoder frames, -1 is full context.
        left_chunks: -1 is all.
    """

    name: str
    chunk_size: int = -1
    left_chunks: int = -1

    @classmethod
    def parse(cls, name: str) -> "DecodingMode":
        """The mode of this name; `ConfigError` if there is none."""
        if name == "full":
            return cls(name)
        match = _MODE.fullmatch(name)
        if match is None:
            raise ConfigError(
                f"unknown decoding mode '{name}': expected full, chunk16 or chunk16-left4 "
                "(with other numbers too)"
            )
        return cls(name, int(match[1]), int(match[2]) if match[2] is not None else -1)


@dataclass
class DecodingRun:
    """What `decode_cuts` found and how long it took.

    Attributes:
        hypotheses: by method, then by utterance id, in the order of the cuts.
        audio_seconds: of all cuts.
        feature_seconds, encoder_seconds: wall time of the steps that all methods share; audio has
            been read and resampled before.
        search_seconds: wall time by method, its first pass included.
        units: by method, what its texts are made of (`DecodingMethod.unit`).
        second_pass_seconds: of methods with a first pass, what came after it.
    """

    hypotheses: dict[str, dict[str, Hypothesis]]
    audio_seconds: float = 0.0
    feature_seconds: float = 0.0
    encoder_seconds: float = 0.0
    search_seconds: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    second_pass_seconds: dict[str, float] = field(default_factory=dict)

    def rtf(self, method: str) -> float:
        """Real-time factor: features, encoder and the search of ``method``, over the audio."""
        spent = self.feature_seconds + self.encoder_seconds + self.search_seconds[method]
        return spent / self.audio_seconds

    def second_pass_rtf(self, method: str) -> float | None:
        """What came after the first pass, over the audio; None of methods without one."""
        seconds = self.second_pass_seconds.get(method)
        return None if seconds is None else seconds / self.audio_seconds


def decode_cuts(
    model: Union[PathLike, "LoadedModel"],
    cuts: Iterable["Cut"],
    methods: Sequence[DecodingMethod],
    mode: str | DecodingMode = "full",
    streaming: bool = False,
    max_batch_seconds: float = 60.0,
    progress: bool = True,
) -> DecodingRun:
    """Decodes every cut by every method, from one pass of the encoder.

    Args:
        model: a model directory, or what `load_model_dir` made of it.
        cuts: with audio; supervisions are not looked at.
        methods: made with the model's tokenizer.
        mode: the encoder's context.
        streaming: in a chunk mode, feed the encoder chunk by chunk through its caches, as in
            service, instead of one pass under the chunk mask; full context cannot stream.
        max_batch_seconds: padded duration of a batch; a longer cut is a batch of its own.
        progress: show a bar.

    Raises:
        DataError: on two cuts of one id, no cuts, or an utterance too short for an encoder frame.
        AudioError: naming the cut whose audio cannot be read.
        ConfigError: on an unknown mode.
    """
    if isinstance(mode, str):
        mode = DecodingMode.parse(mode)
    loaded = load_once(model)
    cuts = list(cuts)
    check_ids(cuts)
    run = DecodingRun({method.name: {} for method in methods})
    own_seconds = {method.name: 0.0 for method in methods}
    passes = {id(method.first_pass): method.first_pass for method in methods if method.first_pass}
    before = {key: first_pass.seconds for key, first_pass in passes.items()}
    with_memory = any(method.needs_memory for method in methods)
    run.units = {method.name: method.unit for method in methods}
    with tqdm(total=len(cuts), desc=mode.name, unit="utt", disable=not progress) as bar:
        for batch in encode_cuts(loaded, cuts, mode, streaming, max_batch_seconds):
            run.audio_seconds += batch.audio_seconds
            run.feature_seconds += batch.feature_seconds
            run.encoder_seconds += batch.encoder_seconds
            names = [cut.id for cut in batch.cuts]
            check_lengths(batch.lengths, batch.features, names)
            memory = batch.memory if with_memory else None
            encoded = EncodedBatch(batch.log_probs, batch.lengths, names, memory)
            for method in methods:
                searched = method.first_pass.seconds if method.first_pass else 0.0
                since = time.perf_counter()
                found = method.decode(encoded)
                spent = time.perf_counter() - since
                searched = method.first_pass.seconds - searched if method.first_pass else 0.0
                own_seconds[method.name] += spent - searched
                run.hypotheses[method.name].update(zip(names, found, strict=True))
            bar.update(len(names))
    for method in methods:
        name, first_pass = method.name, method.first_pass
        run.search_seconds[name] = own_seconds[name]
        if first_pass:  # whichever of those who share it has called it
            run.search_seconds[name] += first_pass.seconds - before[id(first_pass)]
            run.second_pass_seconds[name] = own_seconds[name]
        found_by_id = run.hypotheses[method.name]
        run.hypotheses[method.name] = {cut.id: found_by_id[cut.id] for cut in cuts}
    return run


@dataclass(frozen=True, eq=False)
class EncodedCuts:
    """A batch of cuts, encoded, and how long that took.

    Attributes:
        cuts: N of them.
        features: [utt] (T, F) float32.
        memory, log_probs: (N, S, D) and (N, S, C) float32; lengths (N,).
        audio_seconds: of all of them, without padding.
        feature_seconds, encoder_seconds: wall time.
    """

    cuts: list["Cut"]
    features: list[Tensor]
    memory: Tensor
    log_probs: Tensor
    lengths: Tensor
    audio_seconds: float
    feature_seconds: float
    encoder_seconds: float


def encode_cuts(
    loaded: "LoadedModel",
    cuts: Sequence["Cut"],
    mode: DecodingMode,
    streaming: bool,
    max_batch_seconds: float,
) -> Iterator[EncodedCuts]:
    """Reads and encodes cuts batch by batch, the longest first; arguments and errors as of `decode_cuts`.

    An utterance that is too short for a frame has none: see `check_lengths`.
    """
    device, sample_rate = loaded.model.device, loaded.fbank_options.sample_rate
    fbank = make_batch_fbank(loaded.fbank_options, str(device))
    for batch in make_batches(cuts, max_batch_seconds):
        waveforms = [load_waveform(cut, sample_rate) for cut in batch]
        since = time.perf_counter()
        features = fbank.batch_tensors(waveforms)
        between = time.perf_counter()
        memory, log_probs, lengths = _encode(loaded.model, features, mode, streaming)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield EncodedCuts(
            batch, features, memory, log_probs, lengths,
            sum(len(samples) for samples in waveforms) / sample_rate,
            between - since, time.perf_counter() - between,
        )  # fmt: skip


class HasDuration(Protocol):
    """A cut, or something else with a duration in seconds."""

    @property
    def duration(self) -> float: ...


D = TypeVar("D", bound=HasDuration)


def make_batches(cuts: Sequence[D], max_batch_seconds: float) -> Iterator[list[D]]:
    """Cuts of similar duration together, longest first."""
    batch: list[D] = []
    for cut in sorted(cuts, key=lambda cut: -cut.duration):
        if batch and batch[0].duration * (len(batch) + 1) > max_batch_seconds:
            yield batch
            batch = []
        batch.append(cut)
    if batch:
        yield batch


@torch.no_grad()
def _encode(
    model: "U2MoeModel", features: list[Tensor], mode: DecodingMode, streaming: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """[utt] (T, F) -> encoder output (N, S, D), log-probabilities (N, S, C) float32, lengths (N,)."""
    features_NTF = pad_sequence(features, batch_first=True).to(model.device)
    lengths = torch.tensor([len(matrix) for matrix in features], device=model.device)
    if streaming and mode.chunk_size > 0:
        memory, lengths = encode_in_chunks(
            model, features_NTF, lengths, mode.chunk_size, mode.left_chunks
        )
    else:
        memory, lengths = model.encode(features_NTF, lengths, mode.chunk_size, mode.left_chunks)
    return memory, model.ctc_log_probs(memory), lengths


def load_once(model: Union[PathLike, "LoadedModel"]) -> "LoadedModel":
    """The model of a directory, or what was loaded already."""
    from moe_asr.model.directory import LoadedModel, load_model_dir

    return model if isinstance(model, LoadedModel) else load_model_dir(model)


def check_ids(cuts: Sequence["Cut"]) -> None:
    """Raises `DataError` if there are no cuts, or two of one id."""
    if not cuts:
        raise DataError("no cuts to decode")
    seen = set()
    for cut in cuts:
        if cut.id in seen:
            raise DataError(f"two cuts have the id '{cut.id}'")
        seen.add(cut.id)


def check_lengths(lengths: Tensor, features: Sequence[Tensor], names: Sequence[str]) -> None:
    """Raises `DataError` naming an utterance without an encoder frame."""
    for length, matrix, name in zip(lengths.tolist(), features, names, strict=True):
        if length < 1:
            raise DataError(
                f"cut '{name}': too short to decode: {len(matrix)} feature frames give no "
                "encoder frame"
            )


def texts(hypotheses: Mapping[str, Hypothesis]) -> dict[str, str]:
    """The text of each hypothesis by utterance id."""
    return {name: hypothesis.text for name, hypothesis in hypotheses.items()}
