"""A GPU that is not there: the trainer runs as it does on CUDA, and what it does on the device is recorded.

Tensors of device `cuda` are torch's fake tensors: shapes, dtypes and devices without values. What torch would ask the driver
for (streams, events, pinned memory, the memory in use) is answered here. Tensors of the CPU stay real. Nothing of the trainer
is replaced: it believes what `torch.cuda` says. A build of torch without CUDA is enough.

    with FakeGpu() as gpu, gpu.watching():
        train(run, out, [0])
    gpu.copies, gpu.peak_bytes

Only what torch itself does within a kernel, or what a compiler makes of blocks, is not seen: settings say `compile: false`.

What leaves the device has no value there is: a read gives ones. So a training runs to its end, and its losses mean nothing.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from fox1.trainer.checks.held_out_loss import HeldOutLoss
from fox1.trainer.loop import Trainer
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.distributed._tools import fake_collectives  # noqa: F401  has the collectives accept tensors without values
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
"""What the host waits for the device to answer."""


@dataclass(frozen=True)
class Copy:
    """A copy between host and device."""

    to_device: bool
    bytes: int
    pinned: bool
    """Whether the memory of the host is pinned: else the copy passes through a buffer of the driver's, which it waits for."""
    waits: bool
    """Whether the host waits for its end."""
    stream: str
    where: str
    """File and function of the trainer that asked for it."""
    part: str
    thread: str


@dataclass(frozen=True)
class Read:
    """The host waited for a value of the device."""

    what: str
    where: str
    part: str


@dataclass(frozen=True)
class Cast:
    """A tensor of the device was brought into another dtype."""

    shape: tuple[int, ...]
    before: torch.dtype
    after: torch.dtype
    part: str


@dataclass(frozen=True)
class Attended:
    """A call of `varlen_attn`'s kernel: shapes and dtypes of queries, keys, values and cumulative lengths."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    longest: int
    options: tuple[Any, ...]
    """Those after the longest lengths, as they were given."""
    part: str


@dataclass(frozen=True)
class Layer:
    """A module that was called: dtypes of its weight and of its first input and output, and the devices of all three."""

    name: str
    weight: torch.dtype | None
    given: torch.dtype
    gave: torch.dtype
    devices: frozenset[str]
    part: str


@dataclass(eq=False)
class Stream:
    """One of `torch.cuda`: work on the device in order."""

    device: Any = None
    priority: int = 0
    name: str = "side"

    def wait_event(self, event: Any) -> None: ...
    def wait_stream(self, stream: Any) -> None: ...
    def synchronize(self) -> None: ...

    def record_event(self, event: Any = None) -> Event:
        return event or Event()


class Event:
    """One of `torch.cuda`: a place in a stream."""

    def __init__(self, *arguments: Any, **named: Any) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def wait(self, stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True


@dataclass(frozen=True)
class Card:
    """What a GPU says of itself."""

    name: str = "NVIDIA H200"
    total_memory: int = 141_000_000_000
    capability: tuple[int, int] = (9, 0)


class Fakes(FakeTensorMode):
    """Of tensors that are on no device, whatever `torch.cuda` says; of several threads."""

    avoid_device_init = True

    def __init__(self) -> None:
        self._kernel = threading.local()
        super().__init__(allow_non_fake_inputs=True)

    @property
    def in_kernel_invocation(self) -> bool:
        return getattr(self._kernel, "runs", False)

    @in_kernel_invocation.setter
    def in_kernel_invocation(self, runs: bool) -> None:
        self._kernel.runs = runs


class FakeGpu(TorchDispatchMode):
    """Within the block, this process has one GPU, of the first process of a group of `world`.

    Args:
        world: processes that model and gradients are sharded over; the others are not there, and collectives give what is sent.
    """

    def __init__(self, card: Card | None = None, world: int = 1) -> None:
        super().__init__()
        self.card, self.world = card or Card(), world
        self.copies: list[Copy] = []
        self.reads: list[Read] = []
        self.casts: list[Cast] = []
        self.attended: list[Attended] = []
        self.layers: Counter[Layer] = Counter()
        self.calls: Counter[tuple[str, str]] = Counter()
        """By (part of the training, operation)."""
        self.strays: Counter[str] = Counter()
        """Operations on the device whose result was on the host."""
        self.part = ""
        """What the main thread is at: step, evaluation, report, checkpoint, or none of them."""
        self.present_bytes = self.peak_bytes = 0
        self._fake, self._lock = Fakes(), threading.RLock()
        self._stored: dict[int, tuple[Any, int]] = {}
        """Address of a storage of the device -> (a weak reference to it, its bytes)."""
        self._pinned: set[int] = set()
        """Addresses of pinned memory of the host."""
        self._local = threading.local()
        self._default = Stream(name="default")
        self._within = ExitStack()

    # --- the device that torch.cuda shows ---------------------------------------------------------------------------------

    def __enter__(self) -> FakeGpu:
        cuda = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda device: None,
            "get_device_name": lambda device=None: self.card.name,
            "get_device_capability": lambda device=None: self.card.capability,
            "get_device_properties": lambda device=None: self.card,
            "max_memory_allocated": lambda device=None: self.peak_bytes,
            "reset_peak_memory_stats": self._reset_peak,
            "synchronize": lambda device=None: self._read("synchronize"),
            "Stream": Stream,
            "Event": Event,
            "stream": self._within_stream,
            "current_stream": lambda device=None: self._stream,
            "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
            "set_rng_state": lambda state, device=None: None,
        }
        tensor = {
            # The real ones ask the driver. A storage that is there is nowhere, but not at 0, which means that it is empty.
            "record_stream": lambda tensor, stream: None,
            "data_ptr": lambda tensor: 1 if tensor.numel() else 0,
        }
        # What C++ makes of a fake tensor is where C++ thinks that the tensor is.
        sharded = {"device": property(lambda tensor: tensor._local_tensor.device)}
        for target, names in ((torch.cuda, cuda), (FakeTensor, tensor), (DTensor, sharded)):
            for name, value in names.items():
                self._within.enter_context(mock.patch.object(target, name, value, create=True))
        resize = torch.UntypedStorage.resize_
        self._within.enter_context(
            mock.patch.object(
                torch.UntypedStorage, "resize_", lambda storage, size: self._resized(storage, size, resize)
            )
        )
        backend = "cpu:gloo,cuda:fake" if self.world == 1 else "fake"
        dist.init_process_group(
            backend, store=dist.HashStore() if self.world == 1 else FakeStore(), rank=0, world_size=self.world
        )
        self._within.callback(dist.destroy_process_group)
        # Else `torch.tensor` would make its tensor on the device below what sees calls.
        before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        self._within.callback(torch._C._set_only_lift_cpu_tensors, before)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._within.close()

    @property
    def _stream(self) -> Stream:
        return getattr(self._local, "stream", self._default)

    @contextmanager
    def _within_stream(self, stream: Stream | None) -> Iterator[None]:
        """`torch.cuda.stream`; in a thread of the trainer's, also what makes its tensors fake."""
        before = self._stream
        self._local.stream = stream or before
        modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack()
        try:
            if self in modes:
                yield
            else:
                TorchDispatchMode.__enter__(self)
                try:
                    yield
                finally:
                    TorchDispatchMode.__exit__(self, None, None, None)
        finally:
            self._local.stream = before

    def _reset_peak(self, device: Any = None) -> None:
        self.peak_bytes = self.present_bytes

    # --- what runs on it --------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            # Asked by C++, of which no part knows CUDA here: autograd would look for its streams.
            return torch.device("meta")
        if not all(kind in (torch.Tensor, torch.nn.Parameter, FakeTensor) for kind in types):
            return NotImplemented
        if kwargs.get("device") == torch.device("meta"):
            kwargs["device"] = CUDA
        elsewhere = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
        if elsewhere not in (None, self._fake):
            # Sharded tensors ask once what comes of a call, by fake tensors of their own, which are nowhere.
            return func(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        device = kwargs.get("device")
        on_device = any(isinstance(x, FakeTensor) for x in given) or (device is not None and device.type == "cuda")
        if not on_device:
            return self._on_host(func, args, kwargs)
        self.calls[self.part, str(func)] += 1
        if func is torch.ops.torch_attn._varlen_attn.default:
            self._note_attention(args, kwargs)
        if (value := self._crossing(func, args, kwargs)) is not None:
            return value
        with self._lock, self._fake:
            out = func(*args, **kwargs)
        self._keep_count(out)
        return out

    def _on_host(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Real tensors; pinned memory is ordinary memory that is remembered."""
        pin = kwargs.pop("pin_memory", None)
        if func in (aten._pin_memory.default, aten.pin_memory.default):
            pin, out = True, args[0].clone()
        elif func is aten.is_pinned.default:
            return self._is_pinned(args[0])
        else:
            out = func(*args, **kwargs)
        if pin:
            self._pinned.add(out.untyped_storage().data_ptr())
        return out

    def _is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def _crossing(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What comes of a call that moves values between host and device, recorded; None for other calls."""
        if func in READS:
            self._read(str(func))
            return {aten._local_scalar_dense.default: lambda: torch.ones((), dtype=args[0].dtype).item()}.get(
                func, lambda: True
            )()
        if func is aten._to_copy.default:
            source, device = args[0], kwargs.get("device")
            if isinstance(source, FakeTensor) and device is not None and device.type == "cpu":
                self._copied(False, source, None, kwargs.get("non_blocking", False))
                return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
            if not isinstance(source, FakeTensor):
                self._copied(True, source, source, kwargs.get("non_blocking", False))
            elif kwargs.get("dtype") not in (None, source.dtype):
                self.casts.append(Cast(tuple(source.shape), source.dtype, kwargs["dtype"], self.part))
        elif func is aten.copy_.default:
            to, source = args[:2]
            waits_not = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
            if not isinstance(to, FakeTensor):
                self._copied(False, source, to, waits_not)
                return to
            if not isinstance(source, FakeTensor):
                self._copied(True, source, source, waits_not)
            elif source.dtype != to.dtype:
                self.casts.append(Cast(tuple(source.shape), source.dtype, to.dtype, self.part))
        elif func is aten.index.Tensor and any(x is not None and x.dtype == torch.bool for x in args[1]):
            # How many are chosen only the device knows: here all.
            self._read("index by a mask")
            return args[0].flatten().clone()
        return None

    def _read(self, what: str) -> None:
        self.reads.append(Read(what, _where(), self.part))

    def _copied(self, to_device: bool, tensor: torch.Tensor, host: torch.Tensor | None, waits_not: bool) -> None:
        pinned = host is not None and self._is_pinned(host)
        size = tensor.numel() * tensor.element_size()
        thread = threading.current_thread().name
        waits = not (waits_not and pinned)
        self.copies.append(Copy(to_device, size, pinned, waits, self._stream.name, _where(), self.part, thread))

    def _note_attention(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = args[:4]
        shapes = tuple(tuple(x.shape) for x in tensors)
        options = (*args[7:], *kwargs.values())
        self.attended.append(
            Attended(shapes, tuple(x.dtype for x in tensors), args[5], tuple(map(str, options)), self.part)
        )

    # --- parts of a training ----------------------------------------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note, within the block, which part of a training asks for what, and which layers are called."""
        with ExitStack() as within:
            parts = ((Trainer, "_step", "step"), (Trainer, "_log", "report"), (Trainer, "save", "checkpoint"),
                     (HeldOutLoss, "measure", "evaluation"))  # fmt: skip
            for owner, method, part in parts:
                within.enter_context(mock.patch.object(owner, method, self._as_part(getattr(owner, method), part)))
            within.callback(torch.nn.modules.module.register_module_forward_hook(self._note_layer).remove)
            yield

    def _as_part(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def watched(*arguments: Any, **named: Any) -> Any:
            before, self.part = self.part, part
            try:
                return call(*arguments, **named)
            finally:
                self.part = before

        return watched

    def _note_layer(self, module: torch.nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        weight = getattr(module, "weight", None)
        first = gave[0] if isinstance(gave, tuple) else gave
        found = [x for x in (weight, given[0], first) if isinstance(x, torch.Tensor)]
        devices = frozenset(str(x.device) for x in found)
        kind = None if weight is None else weight.dtype
        name = type(module).__name__.removeprefix("FSDP")
        self.layers[Layer(name, kind, given[0].dtype, first.dtype, devices, self.part)] += 1

    # --- its memory -------------------------------------------------------------------------------------------------------

    def _keep_count(self, out: Any) -> None:
        for tensor in tree_leaves(out):
            if not isinstance(tensor, FakeTensor):
                continue
            if tensor.fake_device.type != "cuda":
                self.strays[_where()] += 1
            else:
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._stored:
                    size = storage.nbytes()
                    self._stored[key] = weakref.ref(storage, functools.partial(self._freed, key)), size
                    self._take(size)

    def _take(self, size: int) -> None:
        self.present_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.present_bytes)

    def _freed(self, key: int, _: Any) -> None:
        self.present_bytes -= self._stored.pop(key)[1]

    def _resized(self, storage: torch.UntypedStorage, size: int, resize: Any) -> Any:
        known = self._stored.get(storage._cdata)
        if known:
            self._stored[storage._cdata] = known[0], size
            self._take(size - known[1])
        return resize(storage, size)


def _where() -> str:
    """The function of the trainer that is being run, as file:function."""
    frame = sys._getframe(1)
    while frame:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and "trainer" in path.parts:
            return f"{path.name}:{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
