"""A batch of utterances fed to the encoder chunk by chunk, as a service would.

Legend: N utterances, T feature frames, F bins, S encoder frames, D model dimension.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from moe_asr.model.u2 import U2MoeModel


@torch.no_grad()
def encode_in_chunks(
    model: "U2MoeModel",
    features_NTF: Tensor,
    lengths: Tensor,
    chunk_size: int,
    left_chunks: int = -1,
) -> tuple[Tensor, Tensor]:
    """The encoder's output in chunks, each given to `model.encode_chunk` as soon as it is complete.

    A packed encoder gets them through a pool of streams.

    Args:
        features_NTF: (N, T, F) float32, padded on the right.
        lengths: (N,) feature frames of each utterance.
        chunk_size: encoder frames of a chunk.
        left_chunks: of left context, -1 is all.

    Returns:
        (N, S, D), zero after each length, and the lengths (N,).
    """
    if model.is_packed:
        pieces = _chunks_of_pool(model, features_NTF, lengths.tolist(), chunk_size, left_chunks)
    else:
        pieces = _chunks_of_states(model, features_NTF, lengths, chunk_size, left_chunks)
    whole = [torch.cat(chunks) for chunks in pieces]
    frames = torch.tensor([len(rows) for rows in whole], device=lengths.device)
    return pad_sequence(whole, batch_first=True), frames


def _chunks_of_states(
    model: "U2MoeModel", features_NTF: Tensor, lengths: Tensor, chunk_size: int, left_chunks: int
) -> list[list[Tensor]]:
    """[utt][chunk] (s, D), by states that are values."""
    first, following = model.chunk_feature_frames(chunk_size)
    state = model.init_stream(len(features_NTF), chunk_size, left_chunks)
    pieces: list[list[Tensor]] = [[] for _ in range(len(features_NTF))]  # [utt][chunk] (s, D)
    active = list(range(len(features_NTF)))
    position, step = 0, first
    while active:
        end = position + step
        given = (lengths[active] - position).clamp(min=0, max=step)
        is_last = lengths[active] <= end
        chunk = features_NTF[active, position:end]
        memory, memory_lengths, state = model.encode_chunk(chunk, given, state, is_last)
        for row, stream in enumerate(active):
            pieces[stream].append(memory[row, : int(memory_lengths[row])])
        if bool(is_last.any()):
            left = [row for row, finished in enumerate(is_last.tolist()) if not finished]
            state = state.select(left)
            active = [active[row] for row in left]
        position, step = end, following
    return pieces


def _chunks_of_pool(
    model: "U2MoeModel",
    features_NTF: Tensor,
    lengths: list[int],
    chunk_size: int,
    left_chunks: int,
) -> list[list[Tensor]]:
    """[utt][chunk] (s, D), by a pool with a slot for each utterance."""
    if left_chunks < 0:  # all of it: as many chunks as the longest has
        left_chunks = -(-model.output_length(max(lengths)) // chunk_size)
    pool = model.new_pool(len(lengths), chunk_size, left_chunks)
    normalised = model.cmvn(features_NTF)
    waiting = [rows[:length] for rows, length in zip(normalised, lengths, strict=True)]
    slots = [slot for _ in lengths if (slot := pool.open()) is not None]
    pieces: list[list[Tensor]] = [[rows.new_zeros(0, model.config.dim)] for rows in waiting]
    while True:
        taken = [pool.chunk_frames(len(rows), True) for rows in waiting]
        active = [stream for stream, (frames, _) in enumerate(taken) if frames]
        if not active:
            return pieces
        features = [waiting[stream][: pool.window] for stream in active]
        found = pool.encode([slots[stream] for stream in active], features)
        for stream, chunk in zip(active, found, strict=True):
            pieces[stream].append(chunk)
            waiting[stream] = waiting[stream][taken[stream][1] :]
