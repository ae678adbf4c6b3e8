"""How much the test accuracies of equal trainings differ by chance.

Only the *discordant* test images show which of two models is better: the images that exactly one of them classifies correctly. McNemar's
test (Psychometrika 12, 1947) treats them as independent coin tosses. Two trainings that differ only by rounding are not quite independent:
one of them may be slightly better overall. So the better model's share of the discordant images is modelled as a random variable with a
Beta distribution around one half. The number of images that it classifies correctly is then beta-binomial. Its variance is
1 + (discordant - 1) * correlation times the variance under McNemar's test, where correlation is that of any two tosses.

The correlation was measured on trainings of the native trainer that differ only in the order of summation, with 20 seeds for each of the
first two rows and fewer for the others (`python -m benchmarks.trainers.parity_accuracy --help` measures it again). The rate of false alarms
holds if the true correlation is at most the assumed one:

| runs | discordant | variance, McNemar's = 1 | correlation |
|---|---|---|---|
| Fashion-MNIST, 60,000 images, 5 epochs | 490 | 1.3 ± 0.4 | 0.001 ± 0.001 |
| MNIST, 60,000 images, 5 epochs | 70 | 1.3 ± 0.4 | 0.005 ± 0.005 |
| Fashion-MNIST, 60,000 images, 1 epoch; 20,000, 1; 10,000, 5; 4,000, 2 | 80 to 350 | 1.3 to 3.3 | 0.002 to 0.007 |
| Fashion-MNIST, 4,000 images, 2 epochs, batches of 16, or learning rate 0.03 | 380, 530 | 5.6, 1.7 | 0.014, 0.000 |
| Fashion-MNIST, 4,000 images, 2 epochs, constant learning rate | 650 | 13.8 | 0.014 |
| MNIST, 20,000 images, 1 epoch; 4,000, 2; 1,000, 1 | 0 to 50 | up to 0.7 | too few to tell |

The first two rows together give 0.0008. The assumed correlation is 0.0025 for a reference run and 0.03 for any other run. Above a learning
rate of 0.03, rounding alone can decide whether a training collapses (at 0.1 it does). The correlation is unknown there, so no limit is set.
"""

FALSE_ALARMS = 1 / 1000  # upper bound, as a fraction of the runs in which all frameworks trained the same
CORRELATION, CORRELATION_OTHERWISE = 0.0025, 0.03  # for a reference run; for any other run
STABLE_RATE = 0.03  # the highest learning rate at which the correlation was measured

EXPLANATION = (
    "Two equal trainings each win about half of the test images that only one of them classifies correctly. The limit of the difference "
    f"allows for chance: {1 - FALSE_ALARMS:.1%} of runs with equal trainings stay within it."
)


def largest_difference(discordant: int, correlation: float, pairs: int) -> int:
    """Return the limit of the difference between the numbers of discordant images that two equal trainings classify correctly.

    With `pairs` such differences per run, the largest exceeds the limit in at most `FALSE_ALARMS` of the runs (Bonferroni).
    """
    from scipy.stats import betabinom  # takes a second to import, and the reports need only `EXPLANATION`

    if discordant == 0:
        return 0
    shape = (1 / correlation - 1) / 2
    better = betabinom(discordant, shape, shape).isf(FALSE_ALARMS / pairs / 2)  # images that the better one classifies correctly
    return int(2 * better) - discordant
