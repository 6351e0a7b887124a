"""One call of a backbone for several heads, and what each of them gets of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.last_layer import gather

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class OneCall:
    """One call of the backbone for all heads: the first makes it, with its arguments; the others get the output."""

    def __init__(self, backbone: PreTrainedModel, parameters: Sequence[str]) -> None:
        self.backbone, self.parameters = backbone, parameters
        self.output: Any = None
        self.given: dict[str, Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the backbone.

        Raises:
            ConfigurationError: When the arguments are not those of the first call.
        """
        given = self._named(args, kwargs)
        if self.given is None:
            self.given, self.output = given, self.backbone(*args, **kwargs)
        elif different := sorted(
            name for name in {*given, *self.given} if not _are_one(given.get(name), self.given.get(name))
        ):
            raise ConfigurationError(
                f"--model {self.backbone.config.model_type}: its heads call the backbone with different "
                f"{', '.join(different)}, so they cannot share one call of it: give {', '.join(different)} as an input."
            )
        return self.output

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return arguments by name, without absent ones and those that only decide on the form of the output."""
        if torch.compiler.is_compiling():  # the check is for users, and tracing it would compare tensors
            return {}
        named = {**dict(zip(self.parameters, args, strict=False)), **kwargs}
        form = ("output_", "return_", "use_")
        return {name: value for name, value in named.items() if value is not None and not name.startswith(form)}


def _are_one(first: Any, second: Any) -> bool:
    """Tell whether two arguments are one; DeepSpeed hands modules other views of the tensors that they are given."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first is second or first.is_set_to(second)
    return first is second


class Selection:
    """Which rows of the backbone's last hidden state a head gets: all of them while none are set.

    It is a forward hook too, for a head model that has kept its backbone. It is registered once and not during each
    step because ``torch.compile`` traces the hooks that it finds at first.
    """

    def __init__(self) -> None:
        self.positions: torch.Tensor | None = None
        self.flattens = False

    def select(self, positions: torch.Tensor | None, *, flattens: bool = False) -> None:
        """Give the head the rows at these flat positions ``(…) int64`` and no others; all rows without any.

        Args:
            positions: The positions.
            flattens: Give it all rows, flattened.
        """
        self.positions, self.flattens = positions, flattens

    def __call__(self, output: Any) -> Any:
        """Return a backbone's output for the head.

        Args:
            output: Output of a backbone, whose first entry is its last hidden state (B, L, H). It stays as it is.

        Returns:
            The output itself, or a copy of it whose last hidden state is (…, H): the rows at the positions, in order.
        """
        if self.positions is not None:
            rows = gather(output[0], self.positions)
        elif self.flattens:
            rows = output[0].flatten(0, 1)
        else:
            return output
        if isinstance(output, tuple):
            return (rows, *output[1:])
        return type(output)(**{**output, "last_hidden_state": rows})

    def hook(self, backbone: nn.Module, args: Any, output: Any) -> Any:
        """Select rows of the output of a backbone, as a forward hook."""
        return self(output)


class Relay(nn.Module):
    """Replacement of the backbone of a head model: returns the output of the shared backbone, computes nothing.

    The backbone is held outside of the module tree, so that parameters and state dict have it once; attributes that
    head models read (its embeddings, its config) are the backbone's. What is to happen between backbone and head
    belongs in :meth:`hand_over`.
    """

    def __init__(self, backbone: PreTrainedModel, selection: Selection) -> None:
        super().__init__()
        self._selection = selection
        self.__dict__["_shared"] = (backbone,)  # a tuple hides it from Module.__setattr__; deepcopy maps it to the copy
        self.__dict__["_call"] = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a module that is being copied or unpickled has no attributes yet
            return super().__getattr__(name)
        return getattr(self.__dict__["_shared"][0], name)

    def connect(self, call: OneCall | None) -> None:
        """Take the backbone's output from this call; it holds activations, so nothing is left of it after the step."""
        self.__dict__["_call"] = call

    def hand_over(self, output: Any) -> Any:
        """Return the part of the backbone's output that this head gets."""
        return self._selection(output)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the shared backbone's output, given the arguments that the head model gives its backbone."""
        assert self._call is not None, "a head with a relay runs inside MultiHeadModel.forward only"
        return self.hand_over(self._call(*args, **kwargs))
