import torch

from train_server.speech_commands.augmentation import augment, mask, unknown


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


CLIPS = 0.1 * torch.randn(12, 16_000, generator=seeded())


def test_clips_are_varied_anew_each_time_and_the_same_under_one_seed():
    generator = seeded()
    first, second = augment(CLIPS, generator), augment(CLIPS, generator)
    assert first.shape == CLIPS.shape
    assert first.isfinite().all()
    assert not torch.equal(first, second)
    assert torch.equal(first, augment(CLIPS, seeded()))


def test_silence_stays_silent_and_finite():
    assert augment(torch.zeros(4, 16_000), seeded()).abs().max() == 0


def test_no_command_is_backwards_or_swapped_or_noise():
    found = unknown(CLIPS, seeded())
    assert torch.equal(found[0], CLIPS[0].flip(0))
    assert torch.equal(found[1], torch.cat([CLIPS[1, 8000:], CLIPS[0, :8000]]))
    assert abs(found[2].square().mean() - 1) < 1e-3


def test_stripes_are_a_fifth_wide_at_most_and_have_the_mean():
    features = torch.arange(40.0)[:, None] + torch.arange(79.0) / 1000 + torch.zeros(50, 1, 1)
    changed = mask(features, seeded()) != features
    rows, columns = changed.all(2).sum(1), changed.all(1).sum(1)
    assert rows.max() <= 8
    assert columns.max() <= 15
    assert rows.float().mean() > 2
    assert columns.float().mean() > 5
