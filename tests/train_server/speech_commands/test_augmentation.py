import torch

from train_server.speech_commands.augmentation import augment, made_unknown, mask, pieces


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


def test_no_command_is_backwards_or_swapped_or_a_piece_or_noise():
    found = made_unknown(CLIPS, seeded())
    assert torch.equal(found[0], CLIPS[0].flip(0))
    assert torch.equal(found[1], torch.cat([CLIPS[1, 8000:], CLIPS[0, :8000]]))
    assert 0 < (found[2] != 0).sum() < 16_000
    assert abs(found[3].square().mean() - 1) < 1e-3


def test_a_piece_is_the_start_or_the_end_of_a_word_and_less_than_half_of_it():
    words = torch.zeros(200, 16_000)
    words[:, 4000:12_000] = torch.rand(200, 8000, generator=seeded()) + 0.1
    found = pieces(words, seeded())
    lengths = (found != 0).sum(1)
    assert lengths.max() < 5000
    assert lengths.min() > 500
    starts, ends = found[:, 4500] != 0, found[:, 11_500] != 0
    assert (starts ^ ends).all()
    assert 50 < starts.sum() < 150


def test_a_bad_line_takes_high_tones_away_from_some_clips():
    tone = torch.sin(2 * torch.pi * 6000 * torch.arange(16_000) / 16_000).repeat(200, 1)
    loud = augment(tone, seeded()).square().mean(1).sqrt() > 0.1
    assert 0.4 < loud.float().mean() < 0.8


def test_stripes_are_a_fifth_wide_at_most_and_have_the_mean():
    features = torch.arange(40.0)[:, None] + torch.arange(79.0) / 1000 + torch.zeros(50, 1, 1)
    changed = mask(features, seeded()) != features
    rows, columns = changed.all(2).sum(1), changed.all(1).sum(1)
    assert rows.max() <= 8
    assert columns.max() <= 15
    assert rows.float().mean() > 2
    assert columns.float().mean() > 5
