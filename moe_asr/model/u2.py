"""The U2++ MoE model: Conformer encoder, CTC head, two attention decoders (arXiv 2404.16407)."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from moe_asr.errors import ConfigError
from moe_asr.model.config import ModelConfig
from moe_asr.model.losses import ModelLosses, add_sos_eos, ctc_loss, token_losses
from moe_asr.nn.cmvn import GlobalCmvn
from moe_asr.nn.decoder import TransformerDecoder
from moe_asr.nn.encoder import ConformerEncoder, MixtureOptions
from moe_asr.nn.stream_pool import StreamPool
from moe_asr.nn.streaming import EncoderState
from moe_asr.nn.subsampling import chunk_feature_frames, output_length

if TYPE_CHECKING:
    from moe_asr.nn.cpu.encoder import PackedEncoder
    from moe_asr.nn.cpu.stream_pool import PackedStreamPool


class U2MoeModel(nn.Module):
    """One model for streaming and full context.

    One that `moe_asr.model.packed` made is for inference only: its encoder and linear layers are others, with
    the same interfaces.

    Legend: N utterances, T feature frames, F bins, S encoder frames, D model dimension, U tokens,
    C vocabulary.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        mixture = MixtureOptions(
            config.hidden_dim,
            config.num_experts,
            config.num_chosen,
            config.load_balance_weight,
            config.z_loss_weight,
        )
        self.cmvn = GlobalCmvn(config.num_features)
        self.encoder: ConformerEncoder | PackedEncoder = ConformerEncoder(
            config.num_features,
            config.dim,
            config.num_heads,
            config.encoder_layers,
            mixture,
            config.kernel,
            config.subsampling,
            config.subsampling_channels,
            config.dropout,
            config.attention_dropout,
        )
        self.ctc = nn.Linear(config.dim, config.vocab_size)
        self.left_to_right = self._decoder(config.left_to_right_layers, mixture)
        self.right_to_left = self._decoder(config.right_to_left_layers, mixture)

    def _decoder(self, num_layers: int, mixture: MixtureOptions) -> TransformerDecoder | None:
        if num_layers == 0:
            return None
        config = self.config
        return TransformerDecoder(
            config.vocab_size,
            config.dim,
            config.num_heads,
            num_layers,
            mixture,
            config.dropout,
            config.attention_dropout,
        )

    @property
    def device(self) -> torch.device:
        return self.cmvn.mean.device

    def forward(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        chunk_size: int | None = None,
    ) -> ModelLosses:
        """Losses of a batch.

        Args:
            features: (N, T, F) float32, padded on the right.
            feature_lengths: (N,) int64.
            targets: (N, U) int64, padded on the right with anything (-1 by convention).
            target_lengths: (N,) int64.
            chunk_size: of the chunk mask, in encoder frames, with all of the left context; <= 0 is
                full context. None: drawn from the configuration in training, else full context.

        An utterance whose targets do not fit its frames has an infinite CTC loss: see
        `ModelLosses.per_utterance`.
        """
        config = self.config
        left_chunks = -1
        if chunk_size is None:
            chunk_size = -1
            if self.training:
                chunk_size, left_chunks = config.dynamic_chunk.draw(
                    self.output_length(features.shape[1])
                )
        memory, lengths, packing = self.encoder(
            self.cmvn(features), feature_lengths, chunk_size, left_chunks
        )
        zeros = memory.new_zeros(len(memory), dtype=torch.float32)
        ctc = l2r = r2l = zeros
        if config.ctc_weight > 0:
            ctc = ctc_loss(self.ctc_log_probs(memory), lengths, targets, target_lengths)
        auxiliary = packing.auxiliary_losses
        if config.ctc_weight < 1:
            scored = []
            for decoder, reverse in ((self.left_to_right, False), (self.right_to_left, True)):
                weight = config.reverse_weight if reverse else 1.0 - config.reverse_weight
                if decoder is None or weight == 0:
                    scored.append(zeros)
                    continue
                inputs, outputs = add_sos_eos(targets, target_lengths, reverse)
                token_packing = decoder.pack(target_lengths + 1, inputs)
                logits = decoder(inputs, target_lengths + 1, memory, lengths, token_packing)
                smoothing = config.label_smoothing
                scored.append(token_losses(logits, outputs, target_lengths, smoothing).sum(1))
                auxiliary = auxiliary + token_packing.auxiliary_losses
            l2r, r2l = scored
        attention = (1.0 - config.reverse_weight) * l2r + config.reverse_weight * r2l
        per_utterance = config.ctc_weight * ctc + (1.0 - config.ctc_weight) * attention
        num_tokens = max(int(target_lengths.sum()), 1)
        total_auxiliary = torch.stack(auxiliary).sum() if auxiliary else zeros.new_zeros(())
        return ModelLosses(
            total=per_utterance.sum() / num_tokens + total_auxiliary,
            ctc=ctc.detach().sum() / num_tokens,
            attention_l2r=l2r.detach().sum() / num_tokens,
            attention_r2l=r2l.detach().sum() / num_tokens,
            auxiliary=total_auxiliary.detach(),
            num_tokens=num_tokens,
            per_utterance=per_utterance.detach(),
        )

    def encode(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        chunk_size: int = -1,
        left_chunks: int = -1,
    ) -> tuple[Tensor, Tensor]:
        """Encodes whole utterances, in full context or under a chunk mask.

        Args:
            features: (N, T, F) float32.
            feature_lengths: (N,) int64.
            chunk_size: in encoder frames; <= 0 is full context.
            left_chunks: chunks of left context, < 0 is all.

        Returns:
            (N, S, D), zero after each length, and lengths (N,).
        """
        memory, lengths, _ = self.encoder(
            self.cmvn(features), feature_lengths, chunk_size, left_chunks
        )
        return memory, lengths

    def ctc_log_probs(self, memory: Tensor) -> Tensor:
        """(N, S, D) -> (N, S, C) float32 natural logs."""
        return self.ctc(memory).float().log_softmax(-1)

    def attention_decoder(self, reverse: bool = False) -> TransformerDecoder:
        """The left-to-right decoder, or the right-to-left one; `ConfigError` if the model has none."""
        decoder = self.right_to_left if reverse else self.left_to_right
        if decoder is None:
            name = "right-to-left" if reverse else "left-to-right"
            raise ConfigError(f"this model has no {name} decoder")
        return decoder

    def decoder_log_probs(
        self, memory: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor,
        reverse: bool = False,
    ) -> Tensor:  # fmt: skip
        """Log-probabilities of given token sequences by one decoder, teacher-forced.

        Args:
            memory, lengths: (N, S, D) and (N,) of `encode`.
            targets, target_lengths: (N, U) and (N,) tokens in spoken order.
            reverse: use the right-to-left decoder (which reads the tokens reversed).

        Returns:
            (N, U + 1): of each token in the decoder's order, then of eos; 0 after each length + 1.
        """
        decoder = self.attention_decoder(reverse)
        inputs, outputs = add_sos_eos(targets, target_lengths, reverse)
        logits = decoder(inputs, target_lengths + 1, memory, lengths)
        return -token_losses(logits, outputs, target_lengths, label_smoothing=0.0)

    def init_stream(self, num_streams: int, chunk_size: int, left_chunks: int = -1) -> EncoderState:
        """State of new streams; see `ConformerEncoder.init_stream`.

        Raises:
            ConfigError: if the model is packed: its streams are those of a `new_pool`.
        """
        return self._states().init_stream(num_streams, chunk_size, left_chunks)

    def encode_chunk(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        state: EncoderState,
        is_last: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """New features in, the next chunk out; see `ConformerEncoder.encode_chunk`."""
        return self._states().encode_chunk(self.cmvn(features), feature_lengths, state, is_last)

    def _states(self) -> ConformerEncoder:
        if not isinstance(self.encoder, ConformerEncoder):
            raise ConfigError("a packed encoder has no states: its streams are those of a new_pool")
        return self.encoder

    @property
    def is_packed(self) -> bool:
        """Whether it was made by `moe_asr.model.packed`, for inference only."""
        return not isinstance(self.encoder, ConformerEncoder)

    def train(self, mode: bool = True) -> "U2MoeModel":
        """Training mode, or evaluation mode; `ConfigError` if the model is packed and would be trained."""
        if mode and self.is_packed:
            raise ConfigError("a packed model cannot be trained: load it without a precision")
        return super().train(mode)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> "U2MoeModel":
        if self.is_packed:
            self.ctc._apply(fn)  # refuses other devices and types, before anything is changed
        return super()._apply(fn, *args, **kwargs)

    def new_pool(
        self, num_slots: int, chunk_size: int, left_chunks: int
    ) -> "StreamPool | PackedStreamPool":
        """Caches of streams that share encoder calls; see `StreamPool`. Features go through `cmvn` first."""
        if isinstance(self.encoder, ConformerEncoder):
            return StreamPool(self.encoder, num_slots, chunk_size, left_chunks)
        return self.encoder.new_pool(num_slots, chunk_size, left_chunks)

    def chunk_feature_frames(self, chunk_size: int) -> tuple[int, int]:
        """Feature frames that complete the first chunk of a stream, and each later one."""
        return chunk_feature_frames(chunk_size, self.config.subsampling)

    def output_length(self, num_frames: int) -> int:
        """Encoder frames of ``num_frames`` feature frames."""
        return output_length(num_frames, self.config.subsampling)

    def num_parameters(self) -> int:
        """All parameters."""
        return sum(parameter.numel() for parameter in self._shapes().parameters())

    def num_active_parameters(self) -> int:
        """Parameters that one frame or token uses: k of E experts, everything else."""
        idle = 1.0 - self.config.num_chosen / self.config.num_experts
        experts = sum(
            parameter.numel()
            for name, parameter in self._shapes().named_parameters()
            if name.rsplit(".", 1)[-1] in ("w1", "b1", "w2", "b2")
        )
        return self.num_parameters() - math.floor(idle * experts)

    def parameter_summary(self) -> dict[str, int]:
        """Parameters of each part of the model."""
        parts = {name: module for name, module in self._shapes().named_children()}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

    def _shapes(self) -> "U2MoeModel":
        """This model, or if it is packed its parameters without their values."""
        from moe_asr.model.meta import build_on_meta

        return build_on_meta(self.config) if self.is_packed else self
