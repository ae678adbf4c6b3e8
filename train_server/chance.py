"""How far apart chance alone puts the test accuracies of equal trainings.

Of two models only the *discordant* test images tell which is better: those that one of them gets right and the other does not. McNemar's
test (Psychometrika 12, 1947) takes each of them for a coin of its own. Two trainings that differ by rounding alone are not quite such
coins: either may have ended a little better as a whole, so the better one's share of the discordant images is itself drawn; here it is
Beta distributed around a half. The number it gets right is then beta-binomial, and the correlation of any two of the coins says how much
more that varies than under McNemar's test: 1 + (discordant - 1) * correlation times.

The correlation was measured on trainings of the C++ trainer that differ by the order of their sums alone, with 20 seeds of the first two
rows and fewer of the others (`python -m train_server.parity_benchmark --help` measures it again). The rate of false alarms
holds where the true correlation is at most the one that is assumed here:

| runs | discordant | variance, McNemar's = 1 | correlation |
|---|---|---|---|
| Fashion-MNIST, 60,000 images, 5 epochs | 490 | 1.3 ± 0.4 | 0.001 ± 0.001 |
| MNIST, 60,000 images, 5 epochs | 70 | 1.3 ± 0.4 | 0.005 ± 0.005 |
| Fashion-MNIST, 60,000 images, 1 epoch; 20,000, 1; 10,000, 5; 4,000, 2 | 80 to 350 | 1.3 to 3.3 | 0.002 to 0.007 |
| Fashion-MNIST, 4,000 images, 2 epochs, batches of 16, or learning rate 0.03 | 380, 530 | 5.6, 1.7 | 0.014, 0.000 |
| Fashion-MNIST, 4,000 images, 2 epochs, constant learning rate | 650 | 13.8 | 0.014 |
| MNIST, 20,000 images, 1 epoch; 4,000, 2; 1,000, 1 | 0 to 50 | up to 0.7 | too few to tell |

The first two together give 0.0008. So a reference run's is taken for 0.0025, any other's for 0.03. Above a learning rate of 0.03, a
training may or may not collapse by rounding alone (at 0.1 it does): there nothing is known, and nothing is judged.
"""

FALSE_ALARMS = 1 / 1000  # of runs in which every framework trained the same, at most
CORRELATION, CORRELATION_OTHERWISE = 0.0025, 0.03  # of a reference run, of any other
STABLE_RATE = 0.03  # the highest learning rate that was measured

EXPLANATION = (
    "Equal trainings get the images that only one of them gets right about equally often. "
    f"The limit of a difference is what chance makes of that: {1 - FALSE_ALARMS:.1%} of runs keep it."
)


def largest_difference(discordant: int, correlation: float, pairs: int) -> int:
    """How many more of the discordant images one of two equal trainings gets right, at most.

    It is more than that in at most `FALSE_ALARMS` of the runs in which the largest of `pairs` such differences is judged (Bonferroni).
    """
    from scipy.stats import betabinom  # takes a second to import, and the reports need only the explanation

    if discordant == 0:
        return 0
    shape = (1 / correlation - 1) / 2
    better = betabinom(discordant, shape, shape).isf(FALSE_ALARMS / pairs / 2)  # right where the other is wrong
    return int(2 * better) - discordant
