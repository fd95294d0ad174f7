import pytest

from synthfair_hf.training.devices import local_device


@pytest.mark.parametrize(("gpus", "local_rank", "device"), [(0, "3", "cpu"), (2, "3", "cuda:1"), (2, None, "cuda:0")])
def test_gpus_are_shared_out_by_local_rank(monkeypatch, gpus, local_rank, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert local_device({} if local_rank is None else {"LOCAL_RANK": local_rank}) == device
