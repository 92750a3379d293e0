"""Which FlashAttention a GPU uses: 3 where it is installed and can run, as far as that shows without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from fox1.trainer.model.attention import FA3, choose_attention

GPU = torch.device("cuda")


class Switch:
    """What torch has to switch, and how often it was asked to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    def activate(self, name: str) -> None:
        self.asked.append(name)
        if self.fails:
            raise RuntimeError("the module does not expose backward kernels")


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Switch:
    """A Hopper GPU with FlashAttention 3."""
    found = Switch()
    (tmp_path / f"{FA3}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(torch.nn.attention, "activate_flash_attention_impl", found.activate, raising=False)
    return found


def test_it_is_3_on_a_hopper_gpu_where_it_is_installed(switch: Switch) -> None:
    assert choose_attention("auto", GPU) == choose_attention("fa3", GPU) == "fa3" and switch.asked == ["FA3"] * 2
    assert choose_attention("fa2", GPU) == "fa2" and len(switch.asked) == 2
    assert choose_attention("fa3", torch.device("cpu")) == "sdpa"


@pytest.mark.parametrize("lacks", ["module", "hopper", "torch"])
def test_where_it_cannot_be_used_2_is_and_one_line_says_why_if_it_was_asked_for(
    lacks: str, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacks == "module":
        monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / f"{FA3}.py").exists()])
        says = "the module flash_attn_interface is not installed"
    elif lacks == "hopper":
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
        says = "NVIDIA H200 is no Hopper GPU"
    else:
        monkeypatch.delattr(torch.nn.attention, "activate_flash_attention_impl")
        says = "cannot be given another FlashAttention"
    assert choose_attention("auto", GPU) == "fa2"
    with pytest.raises(ValueError, match=f"training.attention is fa3, but .*{says}"):
        choose_attention("fa3", GPU)
    assert not switch.asked


def test_one_that_cannot_be_activated_is_left(switch: Switch) -> None:
    switch.fails = True
    assert choose_attention("auto", GPU) == "fa2"
    with pytest.raises(ValueError, match=r"cannot be used .the module does not expose backward kernels"):
        choose_attention("fa3", GPU)
