"""Models of any size without their memory, to look at their shapes."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from moe_asr.model.config import ModelConfig
from moe_asr.model.u2 import U2MoeModel

# Nothing is to be filled; and some of these import all of torch's compiler to find that out
_RANDOM = {"normal_", "uniform_", "kaiming_uniform_"}


def build_on_meta(config: ModelConfig) -> U2MoeModel:
    """The model with shapes and no memory behind them, whatever its size, in any torch from 1.13 on."""
    factories = {torch.empty, torch.zeros, torch.ones}

    class OnMeta(TorchFunctionMode):
        def __torch_function__(
            self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(function, "__name__", "") in _RANDOM:
                return args[0] if args else kwargs["tensor"]
            where = {"device": "meta"} if function in factories else {}
            return function(*args, **{**(kwargs or {}), **where})

    with OnMeta():
        return U2MoeModel(config)
